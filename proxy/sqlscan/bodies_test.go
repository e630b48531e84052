package sqlscan

import "testing"

// What names hide, by the bodies of functions and what uses them.
func TestHide(t *testing.T) {
	h := Hide([]Body{
		{"plain", []byte("begin update t set a = 1; if found then return 1; end if; return 2; end"), "plpgsql"},
		{"sets", []byte("begin set work_mem = '1MB'; end"), "plpgsql"},
		{"tenant", []byte("select set_config('app.tenant', $1, false)"), "sql"},
		{"any_name", []byte("begin perform set_config(name, value, false); end"), "plpgsql"},
		{"local_only", []byte("select set_config('app.local', $1, true)"), "sql"},
		{"runs", []byte("begin execute query; end"), "plpgsql"},
		{"Outer", []byte("begin perform sets(); end"), "plpgsql"},
		{"outermost", []byte("select outer()"), "sql"},
		{"locks", []byte("begin if true then perform pg_advisory_lock(1); end if; end"), "plpgsql"},
		{"circle_a", []byte("select circle_b()"), "sql"}, {"circle_b", []byte("select circle_a(), tenant('x')"), "sql"},
		{"python", []byte("plpy.execute('x')"), "plpython3u"}, {"python_globals", []byte("GD['x'] = 1"), "plpython3u"},
		{"last", []byte("select currval('s')"), "sql"},
	}, []Use{{"orders", "sets"}, {"view_of_orders", "orders"}, {"calm", "plain"}}, []string{"Named"})
	for _, r := range []struct {
		sql       string
		has, lack Finding
	}{
		{"select plain()", 0, ^Finding(0)}, {"select * from calm", 0, ^Finding(0)}, {"select local_only('x')", 0, Untracked},
		{"select sets()", Untracked | Sets, Lasting}, {"SELECT Sets()", Untracked | Sets, 0}, {`select "outer"()`, Untracked | Sets, Lasting},
		{"select outermost()", Untracked | Sets, Lasting}, {"select tenant('x')", Untracked | Sets | Customs, Lasting},
		{"select any_name('a', 'b')", Untracked | Opaque, 0}, {"select runs('x')", Untracked | Provable, Lasting},
		{"select locks()", Untracked | Locks, Temp}, {"select circle_a()", Untracked | Sets | Customs, 0},
		{"select python()", Untracked | Provable, Lasting}, {"select python_globals()", Untracked | External, 0},
		{"insert into orders values (1)", Untracked | Sets, 0}, {"select * from view_of_orders", Untracked | Sets, 0},
		{"select named()", Untracked | External, 0}, {"select last()", LastValue, Untracked}, {"select setsx(), xsets(), sets_()", 0, ^Finding(0)},
	} {
		got := h.In([]byte(r.sql))
		if got&r.has != r.has || got&r.lack != 0 {
			t.Errorf("%s: %b, want %b and none of %b", r.sql, got, r.has, r.lack)
		}
	}
	if got := h.Customs(); len(got) != 2 || got[0] != "app.tenant" {
		t.Errorf("custom settings %v", got)
	}
	var none *Hidden
	if none.In([]byte("select sets()")) != 0 || none.Len() != 0 {
		t.Error("nothing hides something")
	}
	if n := testing.AllocsPerRun(100, func() { h.In([]byte("select sets(), other from orders where a = $1")) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkHidden(b *testing.B) {
	h := Hide([]Body{{"sets", []byte("begin set work_mem = '1MB'; end"), "plpgsql"}}, nil, nil)
	sql := []byte("SELECT * FROM parts WHERE yacht_id = $1 AND name ILIKE $2 ORDER BY id LIMIT 20 -- a comment to make it 100")[:100]
	b.SetBytes(int64(len(sql)))
	b.ReportAllocs()
	for b.Loop() {
		h.In(sql)
	}
}
