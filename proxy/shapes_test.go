package proxy

import (
	"testing"

	"pgpoold/wire"
)

// TestShapeOf: only what describes rows is a shape. The description of the
// parameters comes in front of it, and may be all that comes.
func TestShapeOf(t *testing.T) {
	row := []byte("\x00\x01a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x17\x00\x04\xff\xff\xff\xff\x00\x00")
	a, ok := shapeOf(wire.MsgRowDescription, row)
	if !ok || a == (shape{}) {
		t.Fatalf("a row of one column: %v, %v", a, ok)
	}
	if n, ok := shapeOf(wire.MsgNoData, nil); !ok || n == (shape{}) || n == a {
		t.Errorf("no rows: %v, %v", n, ok)
	}
	if p, ok := shapeOf(wire.MsgParamDescription, []byte{0, 0}); ok {
		t.Errorf("the parameters have the shape %v", p)
	}
	for n := range row {
		if s, ok := shapeOf(wire.MsgRowDescription, row[:n]); ok {
			t.Errorf("%d bytes of a row have the shape %v", n, s)
		}
	}
}
