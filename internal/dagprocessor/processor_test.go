package dagprocessor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/blob"
)

func ids(s ...string) []airflow.DagID {
	out := []airflow.DagID{}
	for _, v := range s {
		out = append(out, airflow.DagID(v))
	}
	return out
}

func TestNewDag(t *testing.T) {
	r := newRig(t)
	r.write("team/etl.yml", "env DESC", "dag etl cron=0_3_*_*_* task=b:zoe task=a:ann task=c:zoe tag=z tag=a", "dag open paused=false")
	r.loader.setEnv("DESC", "described")
	sum := r.sync()
	if !slices.Equal(sum.Changed, ids("etl", "open")) || sum.Files != 1 || sum.Parsed != 1 || sum.Dags != 2 {
		t.Errorf("summary %+v", sum)
	}
	m := r.dag("etl")
	if !m.IsPaused || m.IsStale || m.HasImportErrors || m.LatestVersion != 1 || m.RelativeFileloc != "team/etl.yml" ||
		m.Fileloc != filepath.Join(r.folder, "team/etl.yml") || m.DagDisplayName != "etl" || m.Description != "described" ||
		!slices.Equal(m.Owners, []string{"ann", "zoe"}) || !slices.Equal(m.Tags, []string{"a", "z"}) ||
		m.TimetableSummary != "0 3 * * *" || m.TimetableDescription != "At 03:00" || m.LastParsedTime == nil || m.NextDagRunRunAfter == nil {
		t.Errorf("model %+v", m)
	}
	if r.dag("open").IsPaused {
		t.Error("is_paused_upon_creation: false was not honoured")
	}
	vs := r.versions("etl")
	if len(vs) != 1 || vs[0].Number != 1 || vs[0].Hash != m.LatestHash || vs[0].BundleHash != m.BundleHash {
		t.Errorf("versions %+v", vs)
	}
	doc, err := r.store.GetDocument(context.Background(), m.LatestHash)
	if err != nil || blob.Hash(doc) != m.LatestHash || strings.Contains(string(doc), "/elsewhere/") {
		t.Errorf("document %s, %v", doc, err)
	}
	dir, err := r.cfg.Bundles.Materialize(context.Background(), m.BundleHash)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "team/etl.yml")); err != nil {
		t.Error(err)
	}
	r.noErrors()
}

func TestPausedAtCreationByConfig(t *testing.T) {
	paused := false
	r := newRig(t, func(c *Config) { c.PausedAtCreation = &paused })
	r.write("a.yml", "dag a", "dag b paused=true")
	r.sync()
	if r.dag("a").IsPaused || !r.dag("b").IsPaused {
		t.Error("the configuration decides unless the DAG does")
	}
	// Later files never change what a user set.
	if _, err := r.store.UpdateDag(context.Background(), "b", func(m *airflow.DagModel) error { m.IsPaused = false; return nil }); err != nil {
		t.Fatal(err)
	}
	r.write("a.yml", "dag a", "dag b paused=true task=x")
	r.sync()
	if r.dag("b").IsPaused {
		t.Error("an edit paused the DAG again")
	}
}

func TestVersions(t *testing.T) {
	r := newRig(t)
	r.write("a.yml", "dag a task=one")
	r.sync()
	first := r.dag("a")
	// Without a run the version is overwritten.
	r.write("a.yml", "dag a task=two")
	r.sync()
	if m := r.dag("a"); m.LatestVersion != 1 || m.LatestHash == first.LatestHash || len(r.versions("a")) != 1 || r.versions("a")[0].Hash != m.LatestHash {
		t.Errorf("overwrite: %+v, %+v", m, r.versions("a"))
	}
	// With one there is a new version, whatever the run's place among newer ones.
	r.run("a", "r1")
	second := r.dag("a")
	r.write("a.yml", "dag a task=three")
	r.sync()
	if m := r.dag("a"); m.LatestVersion != 2 || len(r.versions("a")) != 2 || r.versions("a")[0].Hash != second.LatestHash {
		t.Errorf("new version: %+v, %+v", m, r.versions("a"))
	}
	// The run is of version 1 only: version 2 may be overwritten.
	r.write("a.yml", "dag a task=four")
	r.sync()
	if m := r.dag("a"); m.LatestVersion != 2 || len(r.versions("a")) != 2 {
		t.Errorf("overwrite of version 2: %+v", m)
	}
	// Back to an earlier content is a change like any other.
	r.run("a", "r2")
	r.write("a.yml", "dag a task=two")
	r.sync()
	if m := r.dag("a"); m.LatestVersion != 3 || m.LatestHash != second.LatestHash {
		t.Errorf("revert: %+v", m)
	}
}

func TestOldRunKeepsItsVersion(t *testing.T) {
	r := newRig(t)
	r.write("a.yml", "dag a task=one")
	r.sync()
	r.run("a", "old")
	r.write("a.yml", "dag a task=two")
	r.sync()
	// 120 newer runs of version 2, then an edit of version 2 after they were
	// cleaned away but one, which is behind runs of version 1 in the list.
	for i := range 60 {
		run := airflow.DagRun{DagID: "a", RunID: airflow.RunID(fmt.Sprint("f", i)), State: airflow.RunSuccess, RunAfter: r.clock().Add(time.Hour), DagVersion: 1}
		if err := r.store.CreateRun(context.Background(), run); err != nil {
			t.Fatal(err)
		}
	}
	run := airflow.DagRun{DagID: "a", RunID: "backfill", State: airflow.RunSuccess, RunAfter: r.clock().Add(-time.Hour), DagVersion: 2}
	if err := r.store.CreateRun(context.Background(), run); err != nil {
		t.Fatal(err)
	}
	r.write("a.yml", "dag a task=three")
	r.sync()
	if m := r.dag("a"); m.LatestVersion != 3 {
		t.Errorf("a run of version 2 far back in the list was overlooked: %+v", m)
	}
}

func TestScriptChangesBundleOnly(t *testing.T) {
	r := newRig(t)
	r.write("sql/q.sql", "select 1")
	r.write("a.yml", "dag a src=sql/q.sql")
	r.sync()
	r.run("a", "r1")
	before := r.dag("a")
	r.write("sql/q.sql", "select 2")
	sum := r.sync()
	after := r.dag("a")
	if after.LatestVersion != 1 || after.LatestHash != before.LatestHash || after.BundleHash == before.BundleHash || !slices.Equal(sum.Changed, ids("a")) {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if vs := r.versions("a"); len(vs) != 1 || vs[0].BundleHash != after.BundleHash {
		t.Errorf("versions %+v", vs)
	}
	if r.next["a"] != 1 {
		t.Errorf("NextDates was called %d times although the schedule is the same", r.next["a"])
	}
	dir, err := r.cfg.Bundles.Materialize(context.Background(), before.BundleHash)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "sql/q.sql")); err != nil || string(b) != "select 1" {
		t.Errorf("the run's snapshot changed: %q, %v", b, err)
	}
	// chmod +x matters too, although no content changes.
	if err := os.Chmod(filepath.Join(r.folder, "sql/q.sql"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.sync()
	if m := r.dag("a"); m.BundleHash == after.BundleHash {
		t.Error("a script made executable is not in the snapshot")
	}
}

func TestNextDatesOnScheduleChangesOnly(t *testing.T) {
	r := newRig(t)
	check := func(want int, what string) {
		t.Helper()
		r.sync()
		if r.next["a"] != want {
			t.Errorf("%s: NextDates was called %d times, want %d", what, r.next["a"], want)
		}
	}
	r.write("a.yml", "dag a cron=@daily")
	check(1, "new")
	r.write("a.yml", "dag a cron=@daily task=x")
	check(1, "a task more")
	r.write("a.yml", "dag a cron=@hourly task=x")
	check(2, "another schedule")
	r.write("a.yml", "problem broken")
	check(2, "broken")
	r.write("a.yml", "dag a cron=@hourly task=x")
	check(3, "mended")
	if _, err := r.p.RefreshNextDates(context.Background(), "a"); err != nil || r.next["a"] != 4 {
		t.Errorf("RefreshNextDates: %v, %d calls", err, r.next["a"])
	}
	if _, err := r.p.RefreshNextDates(context.Background(), "nope"); !errors.Is(err, airflow.ErrNotFound) {
		t.Errorf("unknown DAG: %v", err)
	}
}

func TestBrokenFileKeepsLastGoodVersion(t *testing.T) {
	r := newRig(t)
	r.write("a.yml", "dag a", "dag b")
	r.write("other.yml", "dag other")
	r.sync()
	good := r.dag("a")
	r.write("a.yml", "dag b task=x", "problem first", "problem second")
	sum := r.sync()
	if !slices.Equal(sum.Changed, ids("a", "b")) || sum.ImportErrors != 1 {
		t.Errorf("summary %+v", sum)
	}
	e := r.wantError("a.yml", "first", "second")
	if !slices.Equal(e.DagIDs, ids("a")) || e.Problems[0].Line != 2 {
		t.Errorf("import error %+v", e)
	}
	if m := r.dag("a"); !m.HasImportErrors || m.IsStale || m.LatestHash != good.LatestHash {
		t.Errorf("broken DAG %+v", m)
	}
	if m := r.dag("b"); m.HasImportErrors || m.LatestHash == "" {
		t.Errorf("the good DAG of the file %+v", m)
	}
	if m := r.dag("other"); m.HasImportErrors {
		t.Error("another file's DAG was hurt")
	}
	// The same problems are not written again.
	r.write("a.yml", "dag b task=x", "problem first", "problem second", "")
	r.sync()
	if again := r.importErrors()["a.yml"]; !again.Timestamp.Equal(e.Timestamp) {
		t.Error("the same import error was written again")
	}
	r.write("a.yml", "dag a", "dag b task=x")
	r.sync()
	r.noErrors()
	if m := r.dag("a"); m.HasImportErrors || m.LatestHash != good.LatestHash || m.LatestVersion != 1 {
		t.Errorf("mended DAG %+v", m)
	}
}

func TestBadDocumentIsAnImportError(t *testing.T) {
	r := newRig(t)
	r.write("a.yml", "dag a broken=1", "dag ok", "dag bad/id", "dag ok task=twice", "dag c cron=nonsense")
	r.sync()
	r.wantError("a.yml", "dag.tasks", "bad/id", "defined twice", "c.schedule")
	r.dag("ok")
	r.noDag("a")
	r.noDag("c")
}

func TestFileProblems(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Scan.MaxFileBytes = 200; c.LoadTimeout = 20 * time.Millisecond })
	r.write("panic.yml", "panic boom")
	r.write("hang.yml", "hang")
	r.write("big.yml", strings.Repeat("#", 300))
	r.write("src.yml", "dag s src=gone.sql src=../outside src=folder")
	r.write("folder/x", "")
	r.write("good.yml", "dag good")
	r.sync()
	r.wantError("panic.yml", "internal error", "boom")
	r.wantError("hang.yml", "within 20ms")
	r.wantError("big.yml", "300 bytes")
	r.wantError("src.yml", "gone.sql", "does not exist", "../outside", "folder")
	r.dag("good")
	r.loader.loaded()
	r.write("src.yml", "dag s src=gone.sql")
	r.sync()
	r.wantLoaded("src.yml")
	r.sync()
	r.wantLoaded()
	r.write("gone.sql", "here now")
	r.sync()
	r.wantLoaded("src.yml")
	r.dag("s")
	r.write("big.yml", "dag big")
	r.sync()
	r.dag("big")
}

func TestVanished(t *testing.T) {
	r := newRig(t)
	r.write("a.yml", "dag a on=x", "dag b")
	r.write("gone.yml", "dag g on=x")
	r.sync()
	// Not in its file any more: stale at once.
	r.write("a.yml", "dag b")
	sum := r.sync()
	if !r.dag("a").IsStale || !slices.Equal(sum.Stale, ids("a")) || !slices.Contains(sum.Changed, "a") {
		t.Errorf("DAG removed from its file: %+v, %+v", r.dag("a"), sum)
	}
	// The file is gone: stale after a while.
	r.remove("gone.yml")
	r.sync()
	if r.dag("g").IsStale {
		t.Error("stale at once although the file may only be on its way")
	}
	r.advance(49 * time.Second)
	r.sync()
	if r.dag("g").IsStale {
		t.Error("stale before the threshold")
	}
	r.advance(2 * time.Second)
	if sum := r.sync(); !r.dag("g").IsStale || !slices.Equal(sum.Stale, ids("g")) {
		t.Errorf("not stale after the threshold: %+v", sum)
	}
	if a := r.asset("x", "x-test://x"); len(a.ScheduledDags) != 0 || a.Active() {
		t.Errorf("stale DAGs still wait for the asset: %+v", a)
	}
	// Back.
	calls := r.next["g"]
	r.write("gone.yml", "dag g on=x")
	r.sync()
	if m := r.dag("g"); m.IsStale || m.LatestVersion != 1 || r.next["g"] != calls+1 {
		t.Errorf("back: %+v, %d calls of NextDates", m, r.next["g"]-calls)
	}
	if a := r.asset("x", "x-test://x"); !slices.Equal(a.ScheduledDags, ids("g")) {
		t.Errorf("back, but %+v", a)
	}
}

func TestVanishedBrokenFile(t *testing.T) {
	r := newRig(t)
	r.write("a.yml", "dag a")
	r.sync()
	r.write("a.yml", "problem x")
	r.write("never.yml", "problem y")
	r.sync()
	r.remove("never.yml")
	r.sync()
	if _, still := r.importErrors()["never.yml"]; still {
		t.Error("the import error of a removed file stayed")
	}
	r.remove("a.yml")
	r.advance(time.Hour) // the threshold counts from when the file was missed
	r.sync()
	r.wantError("a.yml", "x")
	r.advance(time.Hour)
	r.sync()
	r.noErrors()
	if m := r.dag("a"); !m.IsStale || m.HasImportErrors {
		t.Errorf("%+v", m)
	}
}

func TestMovedFile(t *testing.T) {
	r := newRig(t)
	r.write("a.yml", "dag a cron=@daily")
	r.sync()
	r.run("a", "r1")
	r.remove("a.yml")
	r.sync()
	r.write("sub/b.yml", "dag a cron=@daily")
	r.sync()
	if m := r.dag("a"); m.IsStale || m.RelativeFileloc != "sub/b.yml" {
		t.Errorf("moved: %+v", m)
	}
	r.advance(time.Hour)
	r.sync()
	if r.dag("a").IsStale {
		t.Error("the old place made the moved DAG stale")
	}
	r.rename("sub/b.yml", "a.yml")
	r.sync()
	if m := r.dag("a"); m.RelativeFileloc != "a.yml" || m.IsStale {
		t.Errorf("moved back: %+v", m)
	}
	r.noErrors()
}

func TestDuplicateDagID(t *testing.T) {
	r := newRig(t)
	r.write("m.yml", "dag x task=m")
	r.sync()
	r.write("a.yml", "dag x task=a", "dag y")
	r.write("z.yml", "dag x task=z")
	r.sync()
	owner := r.dag("x")
	if owner.RelativeFileloc != "m.yml" {
		t.Errorf("the DAG went to %s", owner.RelativeFileloc)
	}
	r.wantError("a.yml", `"x"`, "a.yml", "m.yml")
	r.wantError("z.yml", `"x"`, "z.yml", "m.yml")
	if m := r.dag("y"); m.HasImportErrors {
		t.Error("the file's other DAG was hurt")
	}
	if owner.HasImportErrors {
		t.Error("the owner was hurt")
	}
	// It survives a restart, and the DAG goes on when its file lets go of it.
	r.restart()
	r.loader.loaded()
	r.sync()
	r.wantLoaded()
	r.wantError("a.yml", "m.yml")
	r.write("m.yml", "dag m")
	r.sync()
	if m := r.dag("x"); m.RelativeFileloc != "a.yml" || m.IsStale {
		t.Errorf("after the owner let go: %+v", m)
	}
	r.wantError("z.yml", "a.yml")
	if _, still := r.importErrors()["a.yml"]; still {
		t.Error("the new owner still has an import error")
	}
	// The file vanishes: the next one takes over at once.
	r.remove("a.yml")
	r.sync()
	r.advance(time.Hour)
	r.sync()
	if m := r.dag("x"); m.RelativeFileloc != "z.yml" || m.IsStale {
		t.Errorf("after the owner vanished: %+v", m)
	}
	r.noErrors()
}

func TestSwappedDags(t *testing.T) {
	r := newRig(t)
	r.write("a.yml", "dag x")
	r.write("b.yml", "dag y")
	r.sync()
	r.write("a.yml", "dag y")
	r.write("b.yml", "dag x")
	r.sync()
	if r.dag("x").RelativeFileloc != "b.yml" || r.dag("y").RelativeFileloc != "a.yml" || r.dag("x").IsStale || r.dag("y").IsStale {
		t.Errorf("x %+v, y %+v", r.dag("x"), r.dag("y"))
	}
	r.noErrors()
}

func TestDependencies(t *testing.T) {
	r := newRig(t)
	r.write("inc/common", "dag common1")
	r.write("a.yml", "include inc/common", "include later", "dag a")
	r.write("b.yml", "dag b")
	r.write("e.yml", "env WHO", "dag e")
	r.loader.setEnv("WHO", "me")
	r.sync()
	r.loader.loaded()
	r.sync()
	r.wantLoaded()
	r.write("inc/common", "dag common2")
	r.sync()
	r.wantLoaded("a.yml")
	if !r.dag("common1").IsStale || r.dag("common2").IsStale {
		t.Error("the include was not taken up")
	}
	r.write("later", "dag late")
	r.sync()
	r.wantLoaded("a.yml")
	r.dag("late")
	r.remove("later")
	r.sync()
	r.wantLoaded("a.yml")
	r.loader.setEnv("WHO", "you")
	r.sync()
	r.wantLoaded("e.yml")
	if got := r.dag("e").Description; got != "you" {
		t.Errorf("description %q", got)
	}
	// The same content written again is no change.
	r.write("b.yml", "dag b")
	r.sync()
	r.wantLoaded()
}

func TestChangesThatStatDoesNotShow(t *testing.T) {
	r := newRig(t)
	r.write("a.yml", "dag a task=one")
	when := time.Now().Add(-time.Hour)
	name := filepath.Join(r.folder, "a.yml")
	touch := func() {
		t.Helper()
		if err := os.Chtimes(name, when, when); err != nil {
			t.Fatal(err)
		}
	}
	touch()
	r.sync()
	before := r.dag("a").LatestHash
	r.write("a.yml", "dag a task=two") // same size, same time
	touch()
	r.sync()
	if r.dag("a").LatestHash == before {
		t.Error("a change with the same size and time was overlooked")
	}
}

func TestRelativeDates(t *testing.T) {
	r := newRig(t)
	r.loader.valid = time.Now().Add(time.Hour)
	r.write("a.yml", "dag a")
	r.sync()
	r.sync()
	r.wantLoaded("a.yml")
	r.advance(2 * time.Hour)
	r.sync()
	r.wantLoaded("a.yml")
}

func TestFileThatChangesWhileItIsRead(t *testing.T) {
	r := newRig(t)
	r.write("a.yml", "dag a task=one")
	edits := 0
	r.loader.during = func(string) {
		if edits++; edits == 1 {
			r.write("a.yml", "dag a task=two2")
		}
	}
	r.sync()
	m := r.dag("a")
	dag, err := r.p.document(context.Background(), m.LatestHash)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := r.cfg.Bundles.Materialize(context.Background(), m.BundleHash)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "a.yml"))
	if err != nil || dag.Tasks[0].TaskID != "two2" || string(b) != "dag a task=two2" {
		t.Errorf("document has %s, snapshot %q (%v)", dag.Tasks[0].TaskID, b, err)
	}
	// One that never rests is not registered half-read and hurts no other.
	r.write("b.yml", "dag b")
	r.loader.during = func(path string) {
		if path == "a.yml" {
			edits++
			r.write("a.yml", fmt.Sprint("dag a task=n", edits))
		}
	}
	r.write("a.yml", "dag a task=restless")
	r.sync()
	r.dag("b")
	if r.dag("a").LatestHash != m.LatestHash || !r.p.next.rescan {
		t.Error("a file that never rests was registered")
	}
}

func TestBrokenFileIsTriedAgain(t *testing.T) {
	r := newRig(t)
	r.write("a.yml", "problem no such module")
	r.write("b.yml", "dag b")
	r.sync()
	r.loader.loaded()
	r.sync()
	r.wantLoaded()
	if wait := r.p.next.at.Sub(r.clock()); wait <= 0 || wait > 30*time.Second {
		t.Errorf("the next look is in %v", wait)
	}
	r.advance(31 * time.Second)
	r.sync()
	r.wantLoaded("a.yml")
	r.sync()
	r.wantLoaded()
}

func TestReparse(t *testing.T) {
	r := newRig(t)
	r.write("a.yml", "dag a")
	r.write("b.yml", "dag b")
	r.sync()
	if err := r.store.DeleteDag(context.Background(), "a"); err != nil {
		t.Fatal(err)
	}
	r.loader.loaded()
	r.p.Reparse("a.yml")
	r.sync()
	r.wantLoaded("a.yml")
	r.dag("a")
	r.p.Reparse()
	r.sync()
	r.wantLoaded("a.yml", "b.yml")
}

// TestDeletedDagComesBack: with the next full scan, as a new DAG, while its file
// defines it; nothing is parsed for a DAG that is still there.
func TestDeletedDagComesBack(t *testing.T) {
	r := newRig(t)
	r.write("a.yml", "dag a")
	r.write("b.yml", "dag b")
	r.sync()
	r.loader.loaded()
	ctx := context.Background()
	if err := r.p.Deleted(ctx, "b", "never"); err != nil {
		t.Fatal(err)
	}
	if err := r.store.DeleteDag(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if err := r.p.Deleted(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	r.sync()
	r.wantLoaded("a.yml")
	if m := r.dag("a"); m.LatestVersion != 1 || m.IsStale {
		t.Errorf("%+v", m)
	}
	if err := r.store.DeleteDag(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if err := r.p.Deleted(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(r.folder, "a.yml")); err != nil {
		t.Fatal(err)
	}
	r.sync()
	r.wantLoaded()
}

func TestUnreadableFolderMakesNothingStale(t *testing.T) {
	r := newRig(t)
	r.write("a.yml", "dag a")
	r.write("sub/b.yml", "dag b")
	r.sync()
	away := r.folder + ".away"
	if err := os.Rename(r.folder, away); err != nil {
		t.Fatal(err)
	}
	r.advance(time.Hour)
	if _, err := r.p.Sync(context.Background()); err == nil {
		t.Error("want an error: the DAG folder is gone")
	}
	r.advance(time.Hour)
	if _, err := r.p.Sync(context.Background()); !errors.Is(err, errFolder) {
		t.Errorf("want errFolder, got %v", err)
	}
	if r.dag("a").IsStale || r.dag("b").IsStale {
		t.Error("DAGs became stale because the folder could not be read")
	}
	if err := os.Rename(away, r.folder); err != nil {
		t.Fatal(err)
	}
	r.sync()
	// Nor does a part that cannot be read: the scan says it is hidden.
	out := &found{unreadable: []string{"sub"}}
	if !out.hidden("sub/b.yml") || !out.hidden("sub") || out.hidden("subway.yml") {
		t.Error("hidden")
	}
}

func TestLimits(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Scan.MaxFiles = 2; c.Scan.MaxDepth = 1 })
	r.write("a.yml", "dag a")
	r.write("b.yml", "dag b")
	r.sync()
	r.write("a1.yml", "dag a1")
	r.write("one/two/deep.yml", "dag deep")
	r.advance(time.Hour)
	r.sync()
	r.advance(time.Hour)
	r.sync()
	r.wantError(folderName, "more than 2 DAG files", "b.yml", "nested more than 1 deep")
	r.dag("a1")
	if r.dag("b").IsStale {
		t.Error("a DAG became stale because of the limit")
	}
	r.remove("a1.yml")
	r.remove("one")
	r.sync()
	r.noErrors()
}

func TestWarmStart(t *testing.T) {
	f := &failing{}
	r := newRigOn(t, f.driver(), func(c *Config) { c.MendInterval = 1000 * time.Hour })
	for i := range 20 {
		r.write(fmt.Sprintf("d%02d.yml", i), fmt.Sprintf("dag d%02d cron=@daily out=shared src=script.sh", i))
	}
	r.write("script.sh", "true")
	r.write("bad.yml", "problem p")
	r.sync()
	r.loader.loaded()
	r.changed = nil
	past := time.Now().Add(-time.Hour)
	matches, _ := filepath.Glob(filepath.Join(r.folder, "*"))
	for _, f := range matches { // settled long ago: their stat stands for their content
		if err := os.Chtimes(f, past, past); err != nil {
			t.Fatal(err)
		}
	}
	r.advance(time.Hour)
	r.sync()

	r.restart()
	f.written()
	sum := r.sync()
	r.wantLoaded()
	if n := f.written(); n != 0 {
		t.Errorf("a warm start made %d writes", n)
	}
	if len(sum.Changed) != 0 || sum.Parsed != 0 || sum.Dags != 20 || sum.ImportErrors != 1 || len(r.changed) != 0 {
		t.Errorf("warm start: %+v", sum)
	}
	if r.p.contents.reads != 0 {
		t.Errorf("a warm start read %d files", r.p.contents.reads)
	}
	// What does not agree with the Store is parsed again.
	if _, err := r.store.UpdateDag(context.Background(), "d03", func(m *airflow.DagModel) error { m.LatestHash = "x"; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := r.store.DeleteDag(context.Background(), "d04"); err != nil {
		t.Fatal(err)
	}
	if err := r.store.DeleteImportError(context.Background(), "bad.yml"); err != nil {
		t.Fatal(err)
	}
	r.restart()
	r.sync()
	r.wantLoaded("bad.yml", "d03.yml", "d04.yml")
	r.dag("d04")
	r.wantError("bad.yml", "p")
	// Another program or configuration parses everything.
	r.loader.version = "2"
	r.restart()
	f.written()
	if sum := r.sync(); sum.Parsed != 21 || len(sum.Changed) != 0 {
		t.Errorf("after an upgrade: %+v", sum)
	}
	if n := f.written(); n != 0 { // the documents are those of the registered versions
		t.Errorf("parsing again without a change made %d writes", n)
	}
	// A damaged cache costs time only.
	if err := os.WriteFile(r.cfg.CacheFile, []byte(`{"format":1,"files":{"a":null}`), 0o600); err != nil {
		t.Fatal(err)
	}
	r.restart()
	if sum := r.sync(); sum.Parsed != 21 || len(sum.Changed) != 0 {
		t.Errorf("with a damaged cache: %+v", sum)
	}
	fi, err := os.Stat(r.cfg.CacheFile)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("cache file: %v, %v", fi, err)
	}
}

func TestEditedWhileStopped(t *testing.T) {
	r := newRig(t)
	r.write("a.yml", "dag a", "dag gone")
	r.write("b.yml", "dag b")
	r.sync()
	r.write("a.yml", "dag a task=x")
	r.remove("b.yml")
	r.restart()
	r.sync()
	if !r.dag("gone").IsStale || r.dag("b").IsStale {
		t.Error("at once: what its file does not define; later: what has no file")
	}
	r.advance(time.Minute)
	r.sync()
	if !r.dag("b").IsStale {
		t.Error("a file removed while stopped was overlooked")
	}
}

func TestStoreFailureIsTriedAgain(t *testing.T) {
	f := &failing{}
	r := newRigOn(t, f.driver())
	r.write("a.yml", "dag a out=x")
	r.write("b.yml", "dag b on=x")
	r.sync()
	for fail := 0; ; fail++ {
		r.write("a.yml", fmt.Sprint("dag a out=y task=t", fail))
		r.write("b.yml", fmt.Sprint("dag b on=y task=t", fail))
		f.arm(fail)
		_, err := r.p.Sync(context.Background())
		hit := f.disarm()
		if hit != (err != nil) {
			t.Fatalf("write %d failed: %v, Sync said %v", fail, hit, err)
		}
		r.sync()
		for _, id := range ids("a", "b") {
			dag, err := r.p.document(context.Background(), r.dag(id).LatestHash)
			if err != nil || dag.Task(airflow.TaskID(fmt.Sprint("t", fail))) == nil {
				t.Fatalf("write %d: DAG %s is not at its last version (%v)", fail, id, err)
			}
		}
		if a := r.asset("y", "x-test://y"); len(a.Producers) != 1 || !slices.Equal(a.ScheduledDags, ids("b")) {
			t.Fatalf("write %d: %+v", fail, a)
		}
		if a := r.asset("x", "x-test://x"); a.Active() {
			t.Fatalf("write %d: %+v", fail, a)
		}
		if !hit {
			if fail < 6 {
				t.Errorf("only %d writes were tried", fail)
			}
			return
		}
		// Back, so that the next round changes the assets again.
		r.write("a.yml", "dag a out=x")
		r.write("b.yml", "dag b on=x")
		r.sync()
	}
}

func TestManyFilesAtOnce(t *testing.T) {
	r := newRig(t)
	n := batchFiles + 40
	for i := range n {
		r.write(fmt.Sprintf("d%04d.yml", i), fmt.Sprintf("dag d%04d on=hot", i))
	}
	var last Progress
	r.cfg.Progress = func(p Progress) { last = p }
	r.restart()
	r.sync()
	if last.Parsed != n || last.Total != n {
		t.Errorf("progress %+v", last)
	}
	if a := r.asset("hot", "x-test://hot"); len(a.ScheduledDags) != n {
		t.Errorf("%d DAGs wait for the asset, want %d", len(a.ScheduledDags), n)
	}
}
