// Command golang runs the scenarios of test/drivers/scenarios_test.go with
// lib/pq and with GORM. It is a module of its own, so that pgpoold's does not
// depend on them.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq"
)

// A smoke is one run of a scenario.
type smoke struct {
	dsn, schema       string
	tasks, statements int
	seconds           float64

	mu       sync.Mutex
	backends map[any]map[int]bool // by client; mu
}

type object = map[string]any

type scenario struct {
	name string
	run  func(context.Context, *smoke) (any, error)
}

func main() {
	driver := flag.String("driver", "lib-pq", "lib-pq or gorm")
	dsn := flag.String("dsn", "", "where to connect")
	schema := flag.String("schema", "", "schema that holds the tables of setup.sql")
	tasks := flag.Int("tasks", 50, "concurrent connections")
	seconds := flag.Float64("seconds", 1, "length of the concurrent scenario")
	statements := flag.Int("statements", 1000, "prepared statements")
	limit := flag.Float64("limit", 60, "seconds after which a scenario is given up")
	only := flag.String("only", "", "scenario to run; default all")
	flag.Parse()
	scenarios := pqScenarios
	if *driver == "gorm" {
		scenarios = gormScenarios
	}
	out := json.NewEncoder(os.Stdout)
	for _, sc := range scenarios {
		if *only != "" && *only != sc.name {
			continue
		}
		s := &smoke{dsn: *dsn, schema: *schema, tasks: *tasks, statements: *statements, seconds: *seconds, backends: make(map[any]map[int]bool)}
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(*limit*float64(time.Second)))
		result, err := sc.run(ctx, s)
		cancel()
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", sc.name, err)
			result = object{"exception": fmt.Sprintf("%T", err), "message": err.Error()}
		}
		moved := 0
		for _, pids := range s.backends {
			if len(pids) > 1 {
				moved++
			}
		}
		if err := out.Encode(object{"scenario": sc.name, "result": result, "clients": len(s.backends), "moved": moved}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// saw notes the backend that answered this client.
func (s *smoke) saw(client any, pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.backends[client] == nil {
		s.backends[client] = make(map[int]bool)
	}
	s.backends[client][pid] = true
}

// with is the DSN with more parameters.
func (s *smoke) with(parameters ...string) string {
	u, err := url.Parse(s.dsn)
	if err != nil {
		panic(err)
	}
	q := u.Query()
	for i := 0; i < len(parameters); i += 2 {
		q.Set(parameters[i], parameters[i+1])
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// as is the DSN with another user, password or database.
func (s *smoke) as(change func(*url.URL)) string {
	u, err := url.Parse(s.dsn)
	if err != nil {
		panic(err)
	}
	change(u)
	return u.String()
}

// crowd runs the tasks of the concurrent scenario.
func (s *smoke) crowd(task func(number int, deadline time.Time) error) any {
	deadline := time.Now().Add(time.Duration(s.seconds * float64(time.Second)))
	errs := make([]error, s.tasks)
	var group sync.WaitGroup
	for number := range s.tasks {
		group.Go(func() { errs[number] = task(number, deadline) })
	}
	group.Wait()
	wrong := []string{}
	for number, err := range errs {
		if err != nil && len(wrong) < 10 {
			wrong = append(wrong, fmt.Sprintf("task %d: %v", number, err))
		}
	}
	return object{"tasks": s.tasks, "wrong": wrong}
}

// failure is the part of an error that does not depend on the connection.
func failure(err error) any {
	var pqErr *pq.Error
	var pgErr *pgconn.PgError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &pqErr):
		return object{"sqlstate": string(pqErr.Code), "message": pqErr.Message, "severity": pqErr.Severity}
	case errors.As(err, &pgErr):
		return object{"sqlstate": pgErr.Code, "message": pgErr.Message, "severity": pgErr.Severity}
	default:
		return object{"error": err.Error()}
	}
}

func raises(turn int) string {
	return fmt.Sprintf(`DO $$ BEGIN RAISE NOTICE 'first %[1]d';
		RAISE WARNING 'second %[1]d' USING DETAIL = 'detail', HINT = 'hint', ERRCODE = '01P99'; END $$`, turn)
}
