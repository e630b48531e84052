package wirescript

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// startup makes a startup message of name=value words. user and database are
// the target's unless given; version=3.2 asks for that protocol; a parameter
// given as name=- is left out.
func startup(words []string) (frontend, error) {
	major, minor := 3, 0
	var names []string
	given := map[string]string{}
	for _, w := range words {
		name, value, ok := strings.Cut(w, "=")
		if !ok {
			return frontend{}, fmt.Errorf("startup parameter %q: want name=value", w)
		}
		if name == "version" {
			if _, err := fmt.Sscanf(value, "%d.%d", &major, &minor); err != nil {
				return frontend{}, fmt.Errorf("version=%s: %w", value, err)
			}
			continue
		}
		if _, dup := given[name]; !dup {
			names = append(names, name)
		}
		given[name] = value
	}
	encode := func(v vars) []byte {
		b := binary.BigEndian.AppendUint32(nil, uint32(major)<<16|uint32(minor))
		for _, d := range [][2]string{{"user", v.user}, {"database", v.database}} {
			if _, ok := given[d[0]]; !ok {
				b = append(b, cstr(d[0], d[1])...)
			}
		}
		for _, n := range names {
			if given[n] != "-" {
				b = append(b, cstr(n, given[n])...)
			}
		}
		return frame(0, append(b, 0))
	}
	return frontend{start: true, encode: encode}, nil
}
