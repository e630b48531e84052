//go:build linux

package container

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgpoold/test/guard"
	"pgpoold/test/postgres"
)

func TestMain(m *testing.M) { os.Exit(postgres.Main(m)) }

// hang guards what should take a moment.
const hang = 60 * time.Second

func TestTheImageServes(t *testing.T) {
	postgres.RequireFull(t)
	if os.Geteuid() != 0 {
		t.Skip("chroot and another user need root")
	}
	certs, err := postgres.NewTLS("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	cluster := postgres.StartForTest(t, postgres.Config{
		TLS: certs, Password: "a password",
		HBA: []string{"hostnossl all all all reject"},
	})
	install := cluster.Install()
	psql, err := install.Tool("psql")
	if err != nil {
		t.Fatal(err)
	}
	build, im := ourDockerfile(t)
	built := buildStage(t, build)
	dsn := fmt.Sprintf("postgres://postgres:a%%20password@%s/postgres?sslmode=verify-full&sslrootcert=system", cluster.Addr())

	t.Run("with roots", func(t *testing.T) {
		c := start(t, layOut(t, im, built, certs.CA), im, dsn)
		c.waitReady(t)
		c.checkUser(t, im.user)
		out, err := exec.Command(psql, "-XAtd", c.clientDSN("a%20password"), "-c", "select 40 + 2").CombinedOutput()
		if err != nil || string(out) != "42\n" {
			t.Fatalf("psql: %v %s\n%s", err, out, c.log())
		}
		if out, err := exec.Command(psql, "-XAtd", c.clientDSN("wrong"), "-c", "select 1").CombinedOutput(); err == nil {
			t.Fatalf("a wrong password was let in: %s", out)
		}
		if code, out := c.command(t, im.healthcheck); code != 0 {
			t.Fatalf("health: exit %d %s", code, out)
		}
		if code := c.end(t, syscall.SIGTERM); code != 0 {
			t.Fatalf("SIGTERM: exit %d\n%s", code, c.log())
		}
		if code, out := c.command(t, im.healthcheck); code != 1 {
			t.Fatalf("health of a dead one: exit %d %s", code, out)
		}
		if strings.Contains(c.log(), "a password") || strings.Contains(c.log(), "a%20password") {
			t.Fatalf("the log has the password:\n%s", c.log())
		}
	})
	t.Run("without roots", func(t *testing.T) {
		c := start(t, layOut(t, im, built, nil), im, dsn)
		why := c.waitNotReady(t)
		if !strings.Contains(why, "certificate") {
			t.Fatalf("not ready because %q", why)
		}
		if code := c.end(t, syscall.SIGTERM); code != 0 {
			t.Fatalf("SIGTERM: exit %d\n%s", code, c.log())
		}
	})
}

// buildStage carries out the build stage: what .dockerignore leaves of the
// project goes into its WORKDIR, and its RUN lines run there, with the
// directory /out of the image somewhere else. It returns the root of what the
// stage made.
func buildStage(t *testing.T, s stage) (root string) {
	t.Helper()
	root = t.TempDir()
	text, err := os.ReadFile("../../.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	patterns := strings.Fields(string(text))
	dir := root
	for _, in := range s.lines {
		switch in.word {
		case "WORKDIR":
			dir = filepath.Join(root, in.rest)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		case "COPY":
			words := strings.Fields(in.rest)
			for _, from := range words[:len(words)-1] {
				copyProject(t, from, dir, patterns)
			}
		case "ARG":
		case "RUN":
			cmd := exec.Command("sh", "-ec", strings.ReplaceAll(in.rest, "/out", filepath.Join(root, "out")))
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("RUN %s: %v\n%s", in.rest, err, out)
			}
		default:
			t.Fatalf("%s is nothing that this test carries out", in.word)
		}
	}
	return root
}

// copyProject copies a file, or with "." everything, from the project.
func copyProject(t *testing.T, from, dir string, patterns []string) {
	t.Helper()
	const top = "../.."
	err := filepath.WalkDir(filepath.Join(top, from), func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, name)
		if err != nil {
			return err
		}
		switch {
		case rel != "." && ignored(patterns, filepath.ToSlash(rel)):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			return os.MkdirAll(filepath.Join(dir, rel), 0o755)
		case !d.Type().IsRegular():
			return nil
		}
		return copyFile(name, filepath.Join(dir, rel))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func copyFile(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// layOut makes the image's file system: what its COPY lines name, and nothing
// else. An authority is added to the CA certificates, as a build would that
// has one of its own; the rest of them is this machine's.
func layOut(t *testing.T, im *image, built string, authority []byte) (root string) {
	t.Helper()
	root = t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range im.copies {
		to := filepath.Join(root, c.to)
		if strings.Contains(c.from, "ca-certificates") {
			roots, err := os.ReadFile(c.from)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				t.Fatal(err)
			}
			roots = append(append(roots, '\n'), authority...)
			if err := os.WriteFile(to, roots, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		from := filepath.Join(built, c.from)
		info, err := os.Stat(from)
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir() {
			err = os.CopyFS(to, os.DirFS(from))
		} else {
			err = copyFile(from, to)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	program, err := elf.Open(filepath.Join(root, im.entrypoint[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP {
			t.Fatal("the program is not static: nothing in the image could load it")
		}
	}
	return root
}

// container is a running ENTRYPOINT.
type container struct {
	root, addr, admin string
	attr              syscall.SysProcAttr
	env               []string
	cmd               *exec.Cmd
	process           *guard.Process
	logFile           string
}

// start runs the ENTRYPOINT as an engine would with -e SUPABASE_POSTGRES_DSN,
// but on ports of the test's own.
func start(t *testing.T, root string, im *image, dsn string) *container {
	t.Helper()
	user, group, _ := strings.Cut(im.user, ":")
	uid, err1 := strconv.ParseUint(user, 10, 32)
	gid, err2 := strconv.ParseUint(group, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	c := &container{
		root: root, addr: freeAddr(t), admin: freeAddr(t),
		attr: syscall.SysProcAttr{
			Chroot:     root,
			Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)},
		},
		logFile: filepath.Join(t.TempDir(), "log"),
	}
	env := map[string]string{}
	for k, v := range im.env {
		env[k] = v
	}
	env["PGPOOLD_LISTEN_ADDR"], env["PGPOOLD_ADMIN_ADDR"] = c.addr, c.admin
	env["SUPABASE_POSTGRES_DSN"] = dsn
	for k, v := range env {
		c.env = append(c.env, k+"="+v)
	}
	log, err := os.Create(c.logFile)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c.cmd = c.exec(im.entrypoint)
	c.cmd.Stdout, c.cmd.Stderr = log, log
	// The guard ends it even where this test does not live to do so.
	g, err := guard.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	if c.process, err = g.Start(c.cmd); err != nil {
		t.Fatal(err)
	}
	return c
}

// exec makes a command that runs in the container.
func (c *container) exec(argv []string) *exec.Cmd {
	attr := c.attr
	return &exec.Cmd{Path: argv[0], Args: argv, Dir: "/", Env: c.env, SysProcAttr: &attr}
}

// command runs another command in the container, as an engine's exec does.
func (c *container) command(t *testing.T, argv []string) (code int, out string) {
	t.Helper()
	var buf bytes.Buffer
	cmd := c.exec(argv)
	cmd.Stdout, cmd.Stderr = &buf, &buf
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), buf.String()
}

func (c *container) log() string {
	text, err := os.ReadFile(c.logFile)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// clientDSN is the executors' DSN.
func (c *container) clientDSN(password string) string {
	return "postgres://postgres:" + password + "@" + c.addr + "/postgres?sslmode=require"
}

// readiness asks /readyz.
func (c *container) readiness() (status int, line string) {
	resp, err := http.Get("http://" + c.admin + "/readyz")
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, strings.TrimSpace(string(body))
}

func (c *container) waitReady(t *testing.T) {
	t.Helper()
	c.wait(t, func(status int, _ string) bool { return status == http.StatusOK })
	for !strings.Contains(c.log(), "pgpoold ready") {
		time.Sleep(10 * time.Millisecond) // the ready line follows within a moment
	}
}

// waitNotReady waits for the reason that PostgreSQL could not be reached.
func (c *container) waitNotReady(t *testing.T) string {
	t.Helper()
	return c.wait(t, func(status int, line string) bool {
		return status == http.StatusServiceUnavailable && strings.Contains(line, "cannot connect")
	})
}

func (c *container) wait(t *testing.T, is func(int, string) bool) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	for {
		status, line := c.readiness()
		if is(status, line) {
			return line
		}
		select {
		case <-ctx.Done():
			t.Fatalf("readiness: %d %s\n%s", status, line, c.log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// checkUser looks at the process from outside: its user, and its root.
func (c *container) checkUser(t *testing.T, user string) {
	t.Helper()
	uid, gid, _ := strings.Cut(user, ":")
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"\nUid:\t" + strings.Repeat(uid+"\t", 3) + uid + "\n",
		"\nGid:\t" + strings.Repeat(gid+"\t", 3) + gid + "\n",
	} {
		if !strings.Contains(string(status), want) {
			t.Errorf("runs as another than %q:\n%s", want, status)
		}
	}
	root, err := os.Readlink(fmt.Sprintf("/proc/%d/root", c.cmd.Process.Pid))
	if err != nil || root != c.root {
		t.Errorf("its root is %s, not %s: %v", root, c.root, err)
	}
}

// end sends a signal and returns the exit code.
func (c *container) end(t *testing.T, sig os.Signal) int {
	t.Helper()
	if err := c.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.process.Done():
		return c.cmd.ProcessState.ExitCode()
	case <-time.After(hang):
		t.Fatalf("%v did not end it\n%s", sig, c.log())
		return -1
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
