package pooling_test

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// TestCloseWhileDialling: pgpoold ends while it waits for a server that has
// taken the connection and says nothing, for however long it would wait.
func TestCloseWhileDialling(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	asked := make(chan struct{}, 100)
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Add(1)
			go func() {
				defer wg.Done()
				defer nc.Close()
				var b [8]byte
				if _, err := io.ReadFull(nc, b[:]); err == nil {
					asked <- struct{}{}
				}
				_, _ = io.Copy(io.Discard, nc)
			}()
		}
	}()
	p := startYAML(t, "pool: {size: 2, min_size: 2, server_connect_timeout: 0s}\ndatabases: {d: {dsn: \"postgres://x@"+ln.Addr().String()+"/d?sslmode=disable\"}}\n")
	<-asked
	ended := make(chan struct{})
	go func() {
		p.Close()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("pgpoold does not end")
	}
	_ = ln.Close()
	if t.Failed() {
		panic("a dial outlives its pool") // nothing else ends it
	}
	wg.Wait()
}

// TestConsoleIsNoLogin: who has come to the console is not on the way in any
// more, and is not sent away for others.
func TestConsoleIsNoLogin(t *testing.T) {
	c, db := rvDB(t)
	p := startYAML(t, "auth: {type: any, users: {ops: ops}}\nadmin: {users: [ops]}\nlisten: {max_login_conn: 1}\npool: {size: 1}\ndatabases: {"+db+": {dsn: \""+c.SuperDSN(db)+"\"}}\n")
	console := login(t, p.Addr(), "ops", "pgpoold")
	console.must("show version")
	if n := p.Server().Snapshot().Totals.LoginsUnderWay; n != 0 {
		t.Errorf("%d logins are under way", n)
	}
	for range 3 {
		login(t, p.Addr(), "app", db).must("select 1")
	}
	console.must("show version")
	console.vanish()
}

// TestLateCancelCostsNoServer: a cancel request that is still on its way when
// the query it meant has ended holds the server back, and only that.
func TestLateCancelCostsNoServer(t *testing.T) {
	c, db := rvDB(t)
	m := rvBetween(t, c)
	p := startYAML(t, "pool: {size: 1}\ndatabases: {"+db+": {dsn: \""+m.dsn(db)+"\"}}\n")
	a, b := login(t, p.Addr(), "app", db), login(t, p.Addr(), "app", db)
	pid := a.must("select pg_backend_pid()").cell()
	cancels := make(chan chan struct{}, 1)
	m.set(func() { m.cancels = cancels })
	holder := login(t, c.Addr(), "postgres", db)
	holder.must("select pg_advisory_lock(1)")
	a.send(sql("select 'done' from (select pg_advisory_xact_lock(1)) x"))
	eventually(t, func() string {
		if value(t, c, db, "select count(*) from pg_locks where locktype = 'advisory' and not granted") == "0" {
			return "the query does not run"
		}
		return ""
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- cancelRequest(p.Addr(), a.pid, a.key) }()
	free := <-cancels
	holder.must("select pg_advisory_unlock(1)")
	if r := a.read(); r.cell() != "done" {
		t.Fatalf("got %s", r)
	}
	b.send(sql("select pg_backend_pid()"))
	waiting(t, p, 1)
	sleepUntil(ctx, 1200*time.Millisecond) // the clock looks at every server meanwhile
	close(free)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if r := b.read(); r.cell() != pid {
		t.Errorf("got %s, want the server with PID %s", r, pid)
	}
	if n := closes(p, "client_gone"); n != 0 {
		t.Errorf("%d servers were closed", n)
	}
}
