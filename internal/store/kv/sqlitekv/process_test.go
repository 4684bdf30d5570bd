package sqlitekv_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/sqlitekv"
)

// The tests of this file start this test binary again as another process, in one of the roles below.
const (
	roleVar = "GUST_SQLITEKV_TEST_ROLE"
	pathVar = "GUST_SQLITEKV_TEST_PATH"
)

func TestMain(m *testing.M) {
	role := os.Getenv(roleVar)
	if role == "" {
		os.Exit(m.Run())
	}
	name, arg, _ := strings.Cut(role, ":")
	if err := roles[name](os.Getenv(pathVar), arg); err != nil {
		fmt.Fprintln(os.Stderr, role+":", err)
		os.Exit(1)
	}
}

var roles = map[string]func(path, arg string) error{
	"count":    roleCount,
	"add":      roleAdd,
	"unlucky":  roleReadOnlyHome,
	"readonly": roleReadOnlyFile,
}

// start runs a role in another process.
func start(t *testing.T, role, path string) (*exec.Cmd, io.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), roleVar+"="+role, pathVar+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, out
}

const counters = 8

func counterOp(g int, i int64) []kv.Op {
	k := kv.Key{PK: fmt.Sprint("counter", g), SK: "n"}
	return []kv.Op{
		kv.Update(k, kv.Or(kv.NotExists(), kv.Eq("n", kv.Int(i-1))), kv.Assign("n", kv.Int(i))).WithIndex(kv.GSI1, kv.Key{PK: "counters", SK: fmt.Sprintf("%d-%09d", g, i)}),
		kv.Put(kv.Item{Key: kv.Key{PK: k.PK, SK: fmt.Sprintf("mark%09d", i)}, Attrs: map[string]kv.Value{"pad": kv.Bytes(make([]byte, 200))}}, kv.NotExists()),
	}
}

// roleCount counts with several goroutines, and prints each number once its write was acknowledged, until it is killed.
// Odd numbers are single writes of the counter alone, even ones transactions that also leave a mark.
func roleCount(path, _ string) error {
	s, err := sqlitekv.Open(path, sqlitekv.Options{CheckpointBytes: 64 << 10}) // checkpoints happen all the time
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make(chan error, counters)
	for g := range counters {
		wg.Go(func() {
			it, err := s.Get(ctx, kv.Key{PK: fmt.Sprint("counter", g), SK: "n"}, true)
			if err != nil && !errors.Is(err, kv.ErrNotFound) {
				errs <- err
				return
			}
			for i := it.Int("n") + 1; ; i++ {
				ops := counterOp(g, i)
				if i%2 == 1 {
					err = s.Write(ctx, ops[0])
				} else {
					err = s.Transact(ctx, fmt.Sprintf("%d-%d", g, i), ops)
				}
				if err != nil {
					errs <- err
					return
				}
				// One write(2) each, so that a line is whole or absent.
				if _, err := os.Stdout.WriteString(fmt.Sprintf("%d %d\n", g, i)); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	return <-errs
}

// TestKill kills a writing process (SIGKILL) several times and checks each time that every write it had acknowledged
// is there, that no transaction is there in part, and that the file is sound.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gust.db")
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	sum := 0
	for round := range rounds {
		cmd, out := start(t, "count", path)
		acked := map[int]int64{}
		total, last := 0, 100+rand.IntN(1500) // it dies in the middle of what follows this one
		for in := bufio.NewScanner(out); in.Scan(); {
			var g int
			var i int64
			if _, err := fmt.Sscanf(in.Text(), "%d %d", &g, &i); err != nil {
				continue // the line that was cut
			}
			acked[g] = max(acked[g], i)
			if total++; total == last {
				_ = cmd.Process.Kill()
			}
		}
		sum += total
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("round %d: the child ended by itself: %v", round, err)
		}

		s, err := sqlitekv.Open(path, sqlitekv.Options{})
		if err != nil {
			t.Fatalf("round %d: open after the kill: %v", round, err)
		}
		if err := s.Check(ctx); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		for g := range counters {
			pk := fmt.Sprint("counter", g)
			it, err := s.Get(ctx, kv.Key{PK: pk, SK: "n"}, true)
			if err != nil && !errors.Is(err, kv.ErrNotFound) {
				t.Fatal(err)
			}
			n := it.Int("n")
			if n < acked[g] || n > acked[g]+1 && acked[g] > 0 {
				t.Errorf("round %d: counter %d is %d, acknowledged were %d", round, g, n, acked[g])
			}
			marks := int64(0)
			if err := kv.All(ctx, s, kv.Query{PK: pk, SK: kv.Prefix("mark")}, func(kv.Item) bool { marks++; return true }); err != nil {
				t.Fatal(err)
			}
			if marks != n/2 {
				t.Errorf("round %d: counter %d is %d with %d marks, want %d", round, g, n, marks, n/2)
			}
			page, err := s.Query(ctx, kv.Query{PK: "counters", Index: kv.GSI1, SK: kv.Prefix(fmt.Sprint(g, "-"))})
			if err != nil || n > 0 && (len(page.Items) != 1 || page.Items[0].Index[kv.GSI1].SK != fmt.Sprintf("%d-%09d", g, n)) {
				t.Errorf("round %d: counter %d is %d, index has %v (%v)", round, g, n, page.Items, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d kills, %d acknowledged writes", rounds, sum)
}

// roleAdd adds 1 to a shared counter arg times with four goroutines, and claims as many of the shared items as it can.
func roleAdd(path, arg string) error {
	times, err := strconv.Atoi(arg)
	if err != nil {
		return err
	}
	s, err := sqlitekv.Open(path, sqlitekv.Options{BusyTimeout: 20 * time.Second})
	if err != nil {
		return err
	}
	errs := make(chan error, 4)
	for range 4 {
		go func() {
			for range times / 4 {
				if err := s.Write(ctx, kv.Update(kv.Key{PK: "shared", SK: "n"}, kv.Cond{}, kv.Add("n", 1))); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	claims := 0
	for i := range 100 {
		op := kv.Put(kv.Item{Key: kv.Key{PK: "claims", SK: fmt.Sprintf("%03d", i)}, Attrs: map[string]kv.Value{"by": kv.Int(int64(os.Getpid()))}}, kv.NotExists())
		switch err := s.Write(ctx, op); {
		case err == nil:
			claims++
		case !errors.Is(err, kv.ErrConditionFailed):
			return err
		}
	}
	for range 4 {
		err = errors.Join(err, <-errs)
	}
	fmt.Println(claims)
	return errors.Join(err, s.Close())
}

// TestProcesses lets several processes, which also all try to create the file, write to it at once.
func TestProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new folder", "gust.db")
	const processes, times = 3, 400
	var cmds []*exec.Cmd
	var outs []io.Reader
	for range processes {
		cmd, out := start(t, fmt.Sprint("add:", times), path)
		cmds, outs = append(cmds, cmd), append(outs, out)
	}
	claims := 0
	for i, cmd := range cmds {
		var n int
		if _, err := fmt.Fscan(outs[i], &n); err != nil {
			t.Errorf("process %d: %v", i, err)
		}
		claims += n
		if err := cmd.Wait(); err != nil {
			t.Errorf("process %d: %v", i, err)
		}
	}
	s := openAt(t, path, sqlitekv.Options{})
	it, err := s.Get(ctx, kv.Key{PK: "shared", SK: "n"}, true)
	if err != nil || it.Int("n") != processes*times {
		t.Errorf("counter %d (%v), want %d", it.Int("n"), err, processes*times)
	}
	if claims != 100 {
		t.Errorf("%d claims of 100 items succeeded", claims)
	}
	if err := s.Check(ctx); err != nil {
		t.Error(err)
	}
}

// becomeNobody gives up root, whom permissions do not stop.
func becomeNobody() error {
	if os.Getuid() != 0 {
		return nil
	}
	return errors.Join(syscall.Setgid(65534), syscall.Setuid(65534))
}

func roleReadOnlyHome(path, _ string) error {
	if err := becomeNobody(); err != nil {
		return err
	}
	_, err := sqlitekv.Open(path, sqlitekv.Options{})
	return wantReadOnly(err)
}

func wantReadOnly(err error) error {
	if !errors.Is(err, kv.ErrReadOnly) || !errors.Is(err, kv.ErrUnavailable) || !strings.Contains(err.Error(), "writ") {
		return fmt.Errorf("error %v, want %w with what to do", err, kv.ErrReadOnly)
	}
	fmt.Println(err)
	return nil
}

func roleReadOnlyFile(path, _ string) error {
	if err := becomeNobody(); err != nil {
		return err
	}
	s, err := sqlitekv.Open(path, sqlitekv.Options{})
	if err != nil {
		return wantReadOnly(err)
	}
	return wantReadOnly(s.Write(ctx, kv.Put(kv.Item{Key: kv.Key{PK: "p", SK: "s"}}, kv.Cond{})))
}

func TestReadOnly(t *testing.T) {
	// Another user must be able to reach the folder.
	dir, err := os.MkdirTemp("", "gust-sqlitekv")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = os.Chmod(dir, 0o700)
		_ = os.RemoveAll(dir)
	})
	path := filepath.Join(dir, "gust.db")
	s := openAt(t, path, sqlitekv.Options{})
	if err := s.Write(ctx, kv.Put(kv.Item{Key: kv.Key{PK: "p", SK: "s"}}, kv.Cond{})); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want -rw-------: the file holds connections (%v)", fi.Mode(), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(path, 0o444), os.Chmod(dir, 0o555)); err != nil {
		t.Fatal(err)
	}
	before := contents(t, path)
	for _, c := range []struct{ role, path string }{
		{"unlucky", filepath.Join(dir, "absent.db")},
		{"unlucky", filepath.Join(dir, "sub", "absent.db")},
		{"readonly", path},
	} {
		cmd, out := start(t, c.role, c.path)
		said, _ := io.ReadAll(out)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s %s: %v", c.role, filepath.Base(c.path), err)
		}
		t.Logf("%s", said)
	}
	if contents(t, path) != before {
		t.Error("the file was changed")
	}
}

func contents(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
