package dagprocessor

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// watching is a rig whose processor runs; scans are counted on a channel.
type watching struct {
	*rig
	scans chan Summary
	stop  func()
}

func watch(t *testing.T, change ...func(*Config)) *watching {
	t.Helper()
	w := &watching{scans: make(chan Summary, 1000)}
	w.rig = newRig(t, append([]func(*Config){func(c *Config) {
		c.Debounce = 5 * time.Millisecond
		c.RefreshInterval = time.Hour // only events count
		c.OnScan = func(s Summary) { w.scans <- s }
	}}, change...)...)
	return w
}

func (w *watching) start() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	p := w.p
	go func() { done <- p.Run(ctx) }()
	stopped := false
	w.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run: %v", err)
		}
	}
	w.t.Cleanup(w.stop)
	select {
	case <-p.Ready():
	case <-time.After(10 * time.Second):
		w.t.Fatal("not ready")
	}
}

// until waits for scans until cond holds; it fails after 10 s.
func (w *watching) until(what string, cond func() bool) {
	w.t.Helper()
	deadline := time.After(10 * time.Second)
	for !cond() {
		select {
		case <-w.scans:
		case <-deadline:
			w.t.Fatalf("%s: not seen", what)
		}
	}
}

func (w *watching) live(id airflow.DagID, task airflow.TaskID) func() bool {
	return func() bool {
		m, err := w.store.GetDag(context.Background(), id)
		if err != nil || m.IsStale || m.HasImportErrors {
			return false
		}
		dag, err := w.p.document(context.Background(), m.LatestHash)
		return err == nil && dag.Task(task) != nil
	}
}

func (w *watching) gone(id airflow.DagID) func() bool {
	return func() bool {
		m, err := w.store.GetDag(context.Background(), id)
		return err == nil && m.IsStale
	}
}

func TestWatchEdits(t *testing.T) {
	w := watch(t, func(c *Config) { c.StaleThreshold = -1 })
	w.write("a.yml", "dag a task=one")
	w.start()
	w.until("first", w.live("a", "one"))

	w.write("a.yml", "dag a task=two")
	w.until("write in place", w.live("a", "two"))

	w.write("a.yml.swp", "dag a task=three")
	w.rename("a.yml.swp", "a.yml")
	w.until("rename and replace", w.live("a", "three"))

	w.write("new/deep/b.yml", "dag b task=x")
	w.until("a new folder", w.live("b", "x"))
	w.write("new/deep/b.yml", "dag b task=y")
	w.until("a file in a new folder", w.live("b", "y"))

	w.rename("new", "renamed")
	w.until("a renamed folder", func() bool { m := w.dag("b"); return !m.IsStale && m.RelativeFileloc == "renamed/deep/b.yml" })
	w.write("renamed/deep/b.yml", "dag b task=z")
	w.until("a file in a renamed folder", w.live("b", "z"))

	w.remove("renamed")
	w.until("a removed folder", w.gone("b"))
	w.write("renamed/deep/b.yml", "dag b task=again")
	w.until("a folder made again", w.live("b", "again"))
	w.write("renamed/deep/b.yml", "dag b task=more")
	w.until("a file in a folder made again", w.live("b", "more"))

	w.write("a.yml", "problem x")
	w.until("broken", func() bool { return w.dag("a").HasImportErrors })
	w.write("a.yml", "dag a task=mended")
	w.until("mended", w.live("a", "mended"))

	w.write(".airflowignore", "a.yml")
	w.until("ignored", w.gone("a"))
	w.remove(".airflowignore")
	w.until("not ignored any more", w.live("a", "mended"))
	w.remove("a.yml")
	w.until("removed", w.gone("a"))
}

func TestWatchDependencies(t *testing.T) {
	w := watch(t)
	outside := t.TempDir()
	w.write("a.yml", "include shared/common", "dag a src=scripts/run.sh", "include "+relative(t, w.folder, filepath.Join(outside, "x")))
	w.write(".airflowignore", "scripts/")
	w.write("scripts/run.sh", "1")
	w.write("shared/common", "dag c task=one")
	w.start()
	w.until("first", w.live("c", "one"))
	bundle := w.dag("a").BundleHash
	w.write("shared/common", "dag c task=two")
	w.until("an included file", w.live("c", "two"))
	w.write("scripts/run.sh", "2")
	w.until("a script in an ignored folder", func() bool { return w.dag("a").BundleHash != bundle })
}

func TestPythonFileMendsBrokenFile(t *testing.T) {
	w := watch(t)
	w.write("a.yml", "env MODULE", "problem no such module")
	w.write("b.yml", "dag b")
	w.start()
	w.loader.loaded()
	w.write("helpers/mod.py", "pass")
	w.until("parsed again", func() bool { return slices.Contains(w.loader.loaded(), "a.yml") })
}

func relative(t *testing.T, from, to string) string {
	t.Helper()
	rel, err := filepath.Rel(from, to)
	if err != nil {
		t.Fatal(err)
	}
	return rel
}

func TestWatchLinkedRoot(t *testing.T) {
	w := watch(t, func(c *Config) {
		for _, v := range []string{"v1", "v2"} {
			if err := os.Mkdir(filepath.Join(filepath.Dir(c.Folder), v), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Remove(c.Folder); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("v1", c.Folder); err != nil {
			t.Fatal(err)
		}
	})
	w.write("a.yml", "dag a task=one")
	w.write("../v2/a.yml", "dag a task=two")
	w.start()
	w.until("first", w.live("a", "one"))
	next := w.folder + ".next"
	if err := os.Symlink("v2", next); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, w.folder); err != nil {
		t.Fatal(err)
	}
	w.until("switched", w.live("a", "two"))
	w.write("a.yml", "dag a task=three")
	w.until("edited after the switch", w.live("a", "three"))
}

func TestPeriodicScanIsTheBackstop(t *testing.T) {
	w := watch(t, func(c *Config) { c.RefreshInterval = 20 * time.Millisecond })
	w.write("e.yml", "env WHO", "dag e")
	w.start()
	w.loader.setEnv("WHO", "you") // no event tells of that
	w.until("environment", func() bool { return w.dag("e").Description == "you" })
}

func TestStaleWithoutFurtherEvents(t *testing.T) {
	w := watch(t, func(c *Config) { c.StaleThreshold = 30 * time.Millisecond })
	w.write("a.yml", "dag a")
	w.start()
	w.remove("a.yml")
	w.until("stale", w.gone("a"))
}

func TestFolderAppearsLater(t *testing.T) {
	w := watch(t)
	away := w.folder + ".away"
	w.write("a.yml", "dag a task=one")
	if err := os.Rename(w.folder, away); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.p.Run(ctx) }()
	if s := <-w.scans; s.Err == nil {
		t.Error("a missing folder is no error")
	}
	select {
	case <-w.p.Ready():
		t.Error("ready without a folder")
	default:
	}
	if err := os.Rename(away, w.folder); err != nil {
		t.Fatal(err)
	}
	w.until("appeared", w.live("a", "one"))
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestRestartAndConcurrentUse(t *testing.T) {
	w := watch(t)
	w.write("a.yml", "dag a task=one")
	for i := range 5 {
		w.start()
		done := make(chan struct{})
		p := w.p
		go func() {
			defer close(done)
			for range 5 {
				p.Reparse("a.yml")
				if _, err := p.Sync(context.Background()); err != nil {
					t.Error(err)
				}
				if _, err := p.RefreshNextDates(context.Background(), "a"); err != nil {
					t.Error(err)
				}
			}
		}()
		if i%2 == 0 {
			<-done
		}
		w.stop()
		<-done
		w.restart()
	}
	w.start()
	w.write("a.yml", "dag a task=last")
	w.until("after restarts", w.live("a", "last"))
}

// TestLiveWithinASecond is the promise with the default settings.
func TestLiveWithinASecond(t *testing.T) {
	w := watch(t, func(c *Config) { c.Debounce = 0 })
	w.write("a.yml", "dag a task=one")
	w.start()
	w.until("first", w.live("a", "one"))
	start := time.Now()
	w.write("a.yml", "dag a task=two")
	w.until("edit", w.live("a", "two"))
	if took := time.Since(start); took > time.Second {
		t.Errorf("an edit took %v to be live", took)
	}
}
