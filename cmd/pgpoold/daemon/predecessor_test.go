package daemon

import (
	"strconv"
	"strings"
	"syscall"
	"testing"

	"pgpoold/cmd/pgpoold/upgrade"
)

// A successor that speaks another version of the protocol says so and takes
// nothing.
func TestOtherProtocol(t *testing.T) {
	ch, theirs, err := upgrade.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ch.Close()
	fd, err := syscall.Dup(int(theirs.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	_ = theirs.Close()
	if err := ch.Send(upgrade.KindHello, &upgrade.Hello{Protocol: upgrade.Protocol + 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := MeetPredecessor(strconv.Itoa(fd)); err == nil || !strings.Contains(err.Error(), "protocol") {
		t.Errorf("the successor goes on: %v", err)
	}
	m, err := ch.Receive()
	if err != nil || m.Kind != upgrade.KindRefused {
		t.Fatalf("%+v, %v", m, err)
	}
	var r upgrade.Refused
	if err := m.Decode(&r); err != nil || !strings.Contains(r.Reason, "protocol") {
		t.Errorf("%q, %v", r.Reason, err)
	}
}

func TestNoPredecessor(t *testing.T) {
	for _, descriptor := range []string{"", "x", "2", "99999"} {
		if _, err := MeetPredecessor(descriptor); err == nil {
			t.Errorf("%q was taken for a descriptor", descriptor)
		}
	}
}

// What is meant for one process alone does not reach its successor.
func TestSuccessorEnv(t *testing.T) {
	before := []string{"A=b", "LISTEN_FDS=2", "LISTEN_PID=7", "NOTIFY_SOCKET=/s", "WATCHDOG_PID=7", "WATCHDOG_USEC=400", EnvUpgrade + "=9"}
	if got := strings.Join(successorEnv(before, true), " "); got != EnvUpgrade+"=3 A=b NOTIFY_SOCKET=/s WATCHDOG_USEC=400" {
		t.Error(got)
	}
	if got := strings.Join(successorEnv(before, false), " "); strings.Contains(got, "WATCHDOG") {
		t.Error(got)
	}
}
