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
	var n Number
	if err := m.Decode(&n); err != nil || n.Number != 7 {
		t.Errorf("number %d, %v", n.Number, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	a.Close()
	if _, err := b.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("the end is %v", err)
	}
}

// What one has said before its end is heard, also by one who has failed to
// answer since.
func TestLastWords(t *testing.T) {
	a, b := pair(t)
	if err := b.Send(KindAnswer, &Answer{Number: 1}); err != nil {
		t.Fatal(err)
	}
	for n := range uint64(3) {
		if err := a.Send(KindGo, &Number{n}); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Send(KindBye, nil); err != nil {
		t.Fatal(err)
	}
	a.Close() // with an answer that it has not read
	for b.Send(KindAnswer, &Answer{Number: 2}) == nil {
	}
	for n := range uint64(3) {
		m, err := b.Receive()
		if err != nil {
			t.Fatal(err)
		}
		var got Number
		if err := m.Decode(&got); err != nil || got.Number != n {
			t.Fatalf("%d, %v", got.Number, err)
		}
	}
	if m, err := b.Receive(); err != nil || m.Kind != KindBye {
		t.Fatalf("%+v, %v", m, err)
	}
}

// What does not fit, and what is no message, is an error and ends the channel.
func TestChannelRefuses(t *testing.T) {
	for name, try := range map[string]func(a, b *Channel) error{
		"too large": func(a, _ *Channel) error {
			return a.Send(KindSession, &Session{Moved: proxy.Moved{Input: make([]byte, maxBody)}})
		},
		"too many descriptors": func(a, _ *Channel) error { return a.Send(KindHello, nil, make([]int, maxFiles+1)...) },
		"another body": func(a, b *Channel) error {
			if err := a.Send(KindHello, &Refused{"it is no hello"}); err != nil {
				return nil
			}
			m, err := b.Receive()
			if err != nil {
				return nil
			}
			return m.Decode(&Number{})
		},
		"a length beyond all bounds": func(a, b *Channel) error {
			_, _ = a.conn.Write([]byte{255, 255, 255, 255, 1, 0, 0, 0})
			_, err := b.Receive()
			return err
		},
		"descriptors that do not come": func(a, b *Channel) error {
			_, _ = a.conn.Write([]byte{0, 0, 0, 0, 1, 3, 0, 0})
			_, err := b.Receive()
			return err
		},
		"a message that nobody reads": func(a, b *Channel) error {
			_, _ = a.Send(KindGo, &Number{1}), a.Send(KindGo, &Number{2})
			_, _ = b.Receive()
			_, err := b.Receive()
			return err
		},
	} {
		a, b := pair(t)
		if err := try(a, b); err == nil {
			t.Errorf("%s: there was no error", name)
		}
	}
	a, b := pair(t)
	_ = a.Send(KindSession, &Session{Moved: proxy.Moved{Input: make([]byte, maxBody)}})
	if _, err := b.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("behind what could not be sent: %v", err)
	}
}
