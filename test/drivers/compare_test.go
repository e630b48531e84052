package drivers

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestCompare(t *testing.T) {
	one := func(result string, clients, moved int) []line {
		return []line{{Scenario: "prepared", Result: json.RawMessage(result), Clients: clients, Moved: moved}}
	}
	for _, c := range []struct {
		name           string
		direct, pooled []line
		want           string // part of the only difference; "" for none
	}{
		{"same, other order of keys", one(`{"a":1,"b":[2]}`, 2, 0), one(`{"b":[2],"a":1}`, 2, 2), ""},
		{"big numbers are not rounded", one(`9007199254740993`, 1, 0), one(`9007199254740992`, 1, 1), "directly"},
		{"different", one(`{"a":1}`, 2, 0), one(`{"a":2}`, 2, 2), "directly"},
		{"direct run failed", one(`{"exception":"E","message":"m"}`, 0, 0), one(`{"exception":"E","message":"m"}`, 0, 0), "fails directly: E: m"},
		{"wrong answers both ways", one(`{"wrong":["x"]}`, 2, 0), one(`{"wrong":["x"]}`, 2, 2), `fails directly: 1 wrong answers: "x"`},
		{"pooled run failed", one(`{"a":1}`, 0, 0), one(`{"exception":"E","message":"m"}`, 0, 0), "exception"},
		{"direct run empty", nil, one(`1`, 1, 1), "missing directly"},
		{"pooled run empty", one(`1`, 1, 0), nil, "missing through pgpoold"},
		{"a client kept its server", one(`1`, 2, 0), one(`1`, 2, 1), "1 of 2 clients met only one server"},
		{"nobody looked at servers", one(`1`, 0, 0), one(`1`, 0, 0), "0 of 0 clients"},
		{"a direct connection that moves is none", one(`1`, 2, 1), one(`1`, 2, 2), "changed servers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := compare([]string{"prepared"}, c.direct, c.pooled)
			if c.want == "" {
				if len(got) != 0 {
					t.Errorf("differences: %v", got)
				}
				return
			}
			if len(got) != 1 || !strings.Contains(got[0].text, c.want) {
				t.Errorf("differences %v, want one with %q", got, c.want)
			}
		})
	}
}

func TestReadLinesRefusesOtherOutput(t *testing.T) {
	if _, err := readLines([]byte("{\"scenario\":\"a\",\"result\":1}\nTraceback\n")); err == nil {
		t.Error("no error for a line that is not JSON")
	}
}
