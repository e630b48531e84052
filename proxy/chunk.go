package proxy

import "time"

// chunk gathers what goes to the client: runs of the bytes that came, and
// messages put in between.
type chunk struct {
	in       []byte
	from, to int       // the run of in that has not been copied
	out      []byte    // nil as long as one run is all there is
	came     time.Time // when somebody asked for the first time
	sure     int       // of out, while the client is being parted with: PostgreSQL would have sent it
}

// time is when the chunk was looked at.
func (c *chunk) time() time.Time {
	if c.came.IsZero() {
		c.came = time.Now()
	}
	return c.came
}

// keep adds in[from:to], which follows what was kept before or leaves a gap.
func (c *chunk) keep(from, to int) {
	if c.to != from {
		c.flush()
		c.from = from
	}
	c.to = to
}

func (c *chunk) flush() {
	if c.to > c.from {
		c.out = append(c.out, c.in[c.from:c.to]...)
	}
	c.from = c.to
}

// put adds a message that did not come in this place.
func (c *chunk) put(f func(dst []byte) []byte) {
	c.flush()
	c.out = f(c.out)
}

func (c *chunk) bytes() []byte {
	if len(c.out) == 0 {
		return c.in[c.from:c.to]
	}
	c.flush()
	return c.out
}
