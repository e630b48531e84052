package sqlscan

import (
	"fmt"
	"strings"
	"testing"
)

func describe(sql string, cmds []Command) string {
	var out []string
	for _, c := range cmds {
		kind := [...]string{"prepare", "execute", "deallocate", "all"}[c.Kind]
		out = append(out, fmt.Sprintf("%s %s <%s>", kind, c.Name, sql[c.From:c.To]))
	}
	return strings.Join(out, ", ")
}

func TestCommands(t *testing.T) {
	for _, r := range []struct{ sql, want string }{
		{"", ""},
		{"select 1", ""},
		{"prepare a as select 1", "prepare a <prepare a as select 1>"},
		{" PREPARE A(int, text) AS SELECT ';' ; select 2;", "prepare a <PREPARE A(int, text) AS SELECT ';' >"},
		{"/* x */ prepare \"A \"\"b\" as select 1 -- ;\n; execute \"A \"\"b\"(1)", `prepare A "b <prepare "A ""b" as select 1 -- ;` + "\n" + `>, execute A "b <execute "A ""b"(1)>`},
		{"prepare transaction 'x'", ""},
		{"prepare transaction as select 1", "prepare transaction <prepare transaction as select 1>"},
		{"deallocate a; deallocate prepare b; deallocate all; deallocate prepare all; deallocate prepare", "deallocate a <deallocate a>, deallocate b <deallocate prepare b>, all  <deallocate all>, all  <deallocate prepare all>, deallocate prepare <deallocate prepare>"},
		{"deallocate \"all\"", `deallocate all <deallocate "all">`},
		{"explain execute a", "execute a <explain execute a>"},
		{"explain (analyze, costs off) execute a(1)", "execute a <explain (analyze, costs off) execute a(1)>"},
		{"explain analyze verbose execute a", "execute a <explain analyze verbose execute a>"},
		{"create temp table t (x) as execute a(2) with no data", "execute a <create temp table t (x) as execute a(2) with no data>"},
		{"create trigger x after insert on t for each row execute function f()", ""},
		{"grant execute on function f() to x", ""},
		{"select 'prepare a as select 1; execute a'", ""},
		{"select $$; execute a $$, $b$ ; execute $$ ; $b$; execute c", "execute c <execute c>"},
		{"select $1; execute c", "execute c <execute c>"},
		{"select E'\\'; execute a'; execute b", "execute b <execute b>"},
		{"select '\\'; execute b; --'", "execute b <execute b>"},
		{"select \"; execute a\"; execute b", "execute b <execute b>"},
		{"/* /* ; execute a */ ; execute b */ execute c", "execute c <execute c>"},
		{"execute", ""},
		{"execute 'a'", ""},
		{"execute \"a", ""},
		{"execute a", "execute a <execute a>"},
		{"ex/**/ecute a", ""},
		{"execute ünï", "execute ünï <execute ünï>"},
		{`prepare U&"\0061\+000062c\\" as select 1`, `prepare abc\ <prepare U&"\0061\+000062c\\" as select 1>`},
		{`execute u&"!0061""" uescape '!' (1)`, `execute a" <execute u&"!0061""" uescape '!' (1)>`},
		{`deallocate prepare U&"\0061" uescape '!'; deallocate U&"ü"`, `deallocate \0061 <deallocate prepare U&"\0061" uescape '!'>, deallocate ü <deallocate U&"ü">`},
	} {
		cmds, ok := Commands([]byte(r.sql), true)
		if got := describe(r.sql, cmds); !ok || got != r.want {
			t.Errorf("%s\n\tis %s\n\twant %s", r.sql, got, r.want)
		}
		if len(cmds) > 0 && Scan([]byte(r.sql), true)&Names == 0 {
			t.Errorf("%s: the scan does not say that names stand in it", r.sql)
		}
	}
	for _, sql := range []string{`prepare U&"\00fc" as select 1`, `execute U&"\61"`, `execute U&"\0000"`, `execute U&"a" uescape '+'`, `execute U&"a" uescape`, `execute U&""`, `explain execute U&"a"`} {
		if _, ok := Commands([]byte(sql), true); ok {
			t.Errorf("%s: a name in disguise is read", sql)
		}
	}
	if cmds, _ := Commands([]byte(`select '\'; execute a; --'; execute b`), false); describe(`select '\'; execute a; --'; execute b`, cmds) != "execute b <execute b>" {
		t.Error("without standard_conforming_strings a backslash escapes:", cmds)
	}
}

// FuzzCommands: whatever a text holds, what is found lies in it, in order,
// and the scan has announced it.
func FuzzCommands(f *testing.F) {
	f.Add("prepare a as select 1; execute a", true)
	f.Add("select $a$ $a$; deallocate all", false)
	f.Add("explain (x) execute \"a\"\"b\"", true)
	f.Fuzz(func(t *testing.T, sql string, standard bool) {
		cmds, _ := Commands([]byte(sql), standard)
		at := 0
		for _, c := range cmds {
			if c.From < at || c.To < c.From || c.To > len(sql) {
				t.Fatalf("%q: %+v", sql, cmds)
			}
			at = c.From
		}
		if found := Scan([]byte(sql), standard); len(cmds) > 0 && found&(Names|Untracked) == 0 {
			t.Errorf("%q names %+v, and the scan finds %v", sql, cmds, found)
		}
	})
}

func TestEndsTransaction(t *testing.T) {
	for text, want := range map[string]bool{
		"commit": true, " /* a */ Rollback to a": true, "END;": true, "-- b\nabort": true, "prepare transaction 'x'": true, "prepare a as select 1": true,
		"select 1": false, "": false, "\"commit\"": false, "begin": false, "commits": false, "savepoint a": false, "endless": false,
	} {
		if EndsTransaction([]byte(text)) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}
