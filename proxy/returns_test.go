package proxy

import "testing"

func TestReturns(t *testing.T) {
	for _, r := range []struct {
		sql, name string
		local     bool
	}{
		{"reset timezone", "timezone", false}, {" RESET  TimeZone ;; ", "timezone", false}, {`reset "TimeZone"`, "timezone", false}, {`reset app."a"`, "app.a", false},
		{"reset all", "all", false}, {"reset time zone", "timezone", false}, {"set timezone to default", "timezone", false}, {"set local timezone=default", "timezone", true},
		{"set session timezone = DEFAULT", "timezone", false}, {"set time zone local", "timezone", false}, {"set local time zone default", "timezone", true}, {"reset role", "role", false},
		{"reset", "", false}, {"set", "", false}, {"set local", "", false}, {"set timezone to utc", "", false}, {"set timezone to 'default'", "", false}, {"reset session authorization", "", false},
		{"reset timezone; select 1", "", false}, {"reset timezone -- x", "", false}, {"reset /* x */ timezone", "", false}, {"select 1", "", false}, {`reset "a""b"`, "", false}, {`reset "a b"`, "", false},
		{"set timezone to default, b", "", false}, {"", "", false},
	} {
		name, local := returns([]byte(r.sql + "\x00"))
		if name != r.name || local != r.local {
			t.Errorf("%s: %q, %v", r.sql, name, local)
		}
	}
	if name, _ := returns([]byte("reset all")); name != "" {
		t.Errorf("a text without its end: %q", name)
	}
	if name, _ := returns([]byte("reset all\x00 x\x00")); name != "" {
		t.Errorf("a text with more behind its end: %q", name)
	}
}
