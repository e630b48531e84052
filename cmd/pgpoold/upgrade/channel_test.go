package upgrade

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"pgpoold/proxy"
)

// pair is both ends of a channel in this process.
func pair(t *testing.T) (a, b *Channel) {
	t.Helper()
	a, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	if b, err = Open(theirs); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return a, b
}

// What is sent comes, with its descriptors, in order, also where it is large.
func TestChannel(t *testing.T) {
	a, b := pair(t)
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	input := bytes.Repeat([]byte{0, 255, 'x'}, 300_000)
	sent := make(chan error, 1)
	go func() {
		err := a.Send(KindServing, nil)
		if err == nil {
			err = a.Send(KindSession, &Session{Number: 7, Moved: proxy.Moved{PID: 42, Settings: "work_mem\x007MB\x00\xff\x00", Input: input}}, int(f.Fd()))
		}
		if err == nil {
			err = a.Send(KindGo, &Number{7})
		}
		sent <- err
	}()
	m, err := b.Receive()
	if err != nil || m.Kind != KindServing || len(m.Files) != 0 {
		t.Fatalf("%+v, %v", m, err)
	}
	if m, err = b.Receive(); err != nil || m.Kind != KindSession || len(m.Files) != 1 {
		t.Fatalf("%+v, %v", m, err)
	}
	var s Session
	if err := m.Decode(&s); err != nil || s.Number != 7 || s.Moved.PID != 42 || s.Moved.Settings != "work_mem\x007MB\x00\xff\x00" || !bytes.Equal(s.Moved.Input, input) {
		t.Errorf("session %d, %d bytes, %v", s.Number, len(s.Moved.Input), err)
	}
	if _, err := m.Files[0].WriteString("passed"); err != nil {
		t.Error(err)
	}
	m.CloseFiles()
	if text, err := os.ReadFile(f.Name()); err != nil || string(text) != "passed" {
		t.Errorf("%q, %v", text, err)
	}
	if m, err = b.Receive(); err != nil || m.Kind != KindGo {
		t.Fatalf("%+v, %v", m, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	a.Close()
	if _, err := b.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("the end is %v", err)
	}
}

// What does not fit, and what is no message, is an error and nothing else.
func TestChannelRefuses(t *testing.T) {
	a, b := pair(t)
	if err := a.Send(KindSession, &Session{Moved: proxy.Moved{Input: make([]byte, maxBody)}}); err == nil {
		t.Error("a message that is too large was sent")
	}
	if err := a.Send(KindHello, nil, make([]int, maxFiles+1)...); err == nil {
		t.Error("too many descriptors were sent")
	}
	if err := a.Send(KindHello, &Refused{"it is no hello"}); err != nil {
		t.Fatal(err)
	}
	m, err := b.Receive()
	if err != nil {
		t.Fatal(err)
	}
	var n Number
	if err := m.Decode(&n); err == nil {
		t.Error("another body was decoded")
	}
	if _, err := a.conn.Write([]byte{255, 255, 255, 255, 1, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Receive(); err == nil {
		t.Error("a length beyond all bounds was taken")
	}
	if _, err := a.conn.Write([]byte{0, 0, 0, 0, 1, 3, 0, 0}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Receive(); err == nil {
		t.Error("descriptors that did not come were not missed")
	}
}
