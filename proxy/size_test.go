package proxy

import (
	"testing"
	"unsafe"

	"pgpoold/wire/stream"
)

// TestSizes: what each client costs for as long as it is there. The limits are
// those of the allocator's size classes, less the header that it puts in front
// of what is larger than half a kilobyte.
func TestSizes(t *testing.T) {
	for _, what := range []struct {
		name     string
		is, most uintptr
	}{
		{"name", unsafe.Sizeof(name{}), 48},
		{"session", unsafe.Sizeof(session{}), 640 - 8},
		{"stream.Conn", unsafe.Sizeof(stream.Conn{}), 192},
		{"stream.Socket", unsafe.Sizeof(stream.Socket{}), 64},
	} {
		if what.is > what.most {
			t.Errorf("a %s has %d bytes, %d are all that there is room for", what.name, what.is, what.most)
		}
	}
}
