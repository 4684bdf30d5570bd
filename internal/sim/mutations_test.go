package sim

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var (
	mutantFlag = flag.String("mutant", "", "run only the mutants whose name contains this")
	seedsFlag  = flag.Int("mutant-seeds", 600, "scenarios within which a mutant must be caught")
)

// mutant is a bug put into a copy of a file of the product; nothing in the
// product knows of it.
type mutant struct {
	name, file string // below internal/
	old, new   string // old occurs exactly once, or the mutant has rotted
}

// mutants are bugs of the kinds that the simulation is there to find.
var mutants = []mutant{
	{"claim without precondition", "store/tasks.go",
		"		kv.And(kv.Or(kv.Missing(attrSeq), kv.Lt(attrSeq, kv.Int(int64(seq)))), notFenced(seq)),",
		"		kv.Cond{},"},
	{"report without looking at the fence", "store/tasks.go",
		"return s.end(ctx, k, seq, claimID, AttemptDone, notFenced(seq), &doc)",
		"return s.end(ctx, k, seq, claimID, AttemptDone, kv.Cond{}, &doc)"},
	{"step committed over another one", "store/runs.go",
		"	cond := kv.Eq(attrVersion, kv.Int(base))\n	if base == 0 {",
		"	cond := kv.Exists()\n	if base == 0 {"},
	{"wake-up by a report lost", "engine/backend.go",
		"	e.Post(airflow.DagRun{DagID: d.Key.DagID, RunID: d.Key.RunID}, ev)",
		"	_ = ev"},
	{"wake-up of later runs lost", "engine/effects.go",
		"	if !r.graph.DependsOnPast() || r.state.Header.LogicalDate == nil {",
		"	if true {"},
	{"dispatch sent before the commit", "engine/step.go",
		"	if err := e.commit(ctx, r, o); err != nil {\n		return nil, err\n	}\n	if !e.shared {",
		"	if ds := e.dispatches(r, o); len(ds) > 0 {\n		_ = e.submitter.Submit(ctx, ds)\n	}\n	if err := e.commit(ctx, r, o); err != nil {\n		return nil, err\n	}\n	if !e.shared {"},
	{"fence skipped", "engine/step.go",
		"			if err := e.store.Fence(ctx, c.Key, c.DispatchSeq+1); err != nil {",
		"			if err := error(nil); err != nil {\n				_ = c"},
	{"retry delay ignored", "scheduler/report.go",
		"	a.rs.setWake(a.pos, At(end.Time().Add(delay))+1)",
		"	a.rs.setWake(a.pos, At(end.Time())+1+0*Micros(delay))"},
	{"freed slot never given back", "engine/admission.go",
		"			a.account(key, ra, sl, -1)\n		}\n		ra.leaving = ra.leaving[:0]",
		"			_ = sl\n		}\n		ra.leaving = ra.leaving[:0]"},
	{"slot given away before the commit", "engine/admission.go",
		"		ra.leaving = append(ra.leaving, held)\n		delete(ra.holding, pos)",
		"		a.account(key, ra, held, -1)\n		delete(ra.holding, pos)"},
	{"asset event without its queue row", "store/assets.go",
		"				ops = append(ops, *op)",
		"				_ = op"},
	{"asset run made before it is decided", "engine/assetruns.go",
		"	m, err = e.store.UpdateDag(ctx, dag.DagID, func(cur *airflow.DagModel) error {\n		if cur.PendingAssetRun != nil ||",
		"	early := m\n	early.PendingAssetRun = pending\n	if err := e.createAssetRun(ctx, early); err != nil {\n		return err\n	}\n	m, err = e.store.UpdateDag(ctx, dag.DagID, func(cur *airflow.DagModel) error {\n		if cur.PendingAssetRun != nil ||"},
	{"INFO closed before META", "engine/step.go",
		"	if err := e.commit(ctx, r, o); err != nil {\n		return nil, err\n	}\n	if !e.shared {",
		"	e.syncInfo(ctx, r)\n	if err := e.commit(ctx, r, o); err != nil {\n		return nil, err\n	}\n	if !e.shared {"},
	{"stored reports ignored by recovery", "engine/recover.go",
		"		case a.Status == store.AttemptDone:\n			e.post(r, Event{Dispatch: &d})",
		"		case a.Status == store.AttemptDone:"},
	{"triggers forgotten by recovery", "engine/step.go",
		"	err = e.loadTriggers(ctx, r)",
		"	err = nil"},
	{"running runs not counted", "engine/tick.go",
		"			lim.Running[slot]++",
		"			_ = slot"},
	{"callback of a run dropped", "engine/callbacks.go",
		"			add(effectDagCallback, fmt",
		"			func(string, string, callbackDoc) {}(effectDagCallback, fmt"},
	{"callback of a lost task dropped", "engine/callbacks.go",
		"			add(effectTaskCallback, id,",
		"			func(string, string, callbackDoc) {}(effectTaskCallback, id,"},
	{"callback not recorded as carried out", "engine/callbacks.go",
		"		if err := e.store.MarkEffect(",
		"		if err := func(...any) error { return nil }("},
	{"pending callbacks ignored by recovery", "engine/callbacks.go",
		"	e.runCallbacks(ps)\n	return nil",
		"	_ = ps\n	return nil"},
	{"deadlines of a failed run forgotten", "engine/later.go",
		"	if h.State != airflow.RunFailed ||",
		"	if true || h.State != airflow.RunFailed ||"},
	{"chunk not marked dirty", "scheduler/sets.go",
		"{ rs.Chunks[pos/ChunkSize].Dirty = true }",
		"{ rs.Chunks[0].Dirty = true }"},
	{"chunk without an item of its own", "store/runs.go",
		"		cond = kv.And(cond, kv.Present(attrChunks))",
		"		_ = kv.Present(attrChunks)"},
	{"eventually consistent read trusted", "store/shared.go",
		"	return s.kv.Get(ctx, key, true)",
		"	return s.kv.Get(ctx, key, false)"},
	{"lagging index trusted", "engine/recover.go",
		"	for _, info := range active {\n		e.lookup(info)\n	}",
		"	listed := map[store.RunKey]bool{}\n	for _, info := range active {\n		listed[e.lookup(info).key] = true\n	}\n	for k := range e.runs {\n		if !listed[k] {\n			e.forgetDeleted(k)\n		}\n	}"},
	{"teardown before its work is done", "scheduler/deps.go",
		"		if c := p.counts(t, n.Scope, n.simpleSetups); c.Done() < c.Upstream {\n			met = false",
		"		if c := p.counts(t, n.Scope, n.simpleSetups); c.Done() < c.Upstream {"},
	{"map index of a group ignored", "scheduler/expand.go",
		"	at := floorDiv(mapIndex*ancestors, count)",
		"	at := floorDiv(mapIndex*ancestors, count) * 0"},
	{"import errors ignored", "engine/tick.go",
		"	model := &m\n",
		"	m.HasImportErrors = false\n	model := &m\n"},
	{"record without its slots", "engine/record.go",
		"	rec.Inputs, rec.Facts, rec.Granted = o.inputs, o.facts, o.granted",
		"	rec.Inputs, rec.Facts = o.inputs, o.facts"},
}

var caughtBy = regexp.MustCompile(`(?m)^\s*sim_test.go:\d+: (seed \d+: .*)$`)

// TestMutations puts one bug at a time into a copy of the product (go build's
// -overlay) and checks that the simulation catches it.
func TestMutations(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: builds the product once per mutant")
	}
	dir := t.TempDir()
	for i, m := range mutants {
		if !strings.Contains(m.name, *mutantFlag) {
			continue
		}
		path, err := filepath.Abs(filepath.Join("..", filepath.FromSlash(m.file)))
		if err != nil {
			t.Fatal(err)
		}
		src, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(src), m.old); n != 1 {
			t.Errorf("%s: what it changes in %s occurs %d times, want 1: write it anew", m.name, m.file, n)
			continue
		}
		begin := time.Now()
		changed := filepath.Join(dir, fmt.Sprintf("%02d.go", i))
		if err := os.WriteFile(changed, []byte(strings.Replace(string(src), m.old, m.new, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
		overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{path: changed}})
		if err != nil {
			t.Fatal(err)
		}
		list := filepath.Join(dir, fmt.Sprintf("%02d.json", i))
		if err := os.WriteFile(list, overlay, 0o644); err != nil {
			t.Fatal(err)
		}
		bin := filepath.Join(dir, fmt.Sprintf("%02d.test", i))
		if out, err := exec.Command("go", "test", "-c", "-overlay", list, "-o", bin, ".").CombinedOutput(); err != nil {
			t.Errorf("%s: does not compile: %v\n%s", m.name, err, out)
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		out, err := exec.CommandContext(ctx, bin, "-test.run", "^TestSimulation$", "-failures", "1", "-n", fmt.Sprint(*seedsFlag)).CombinedOutput()
		cancel()
		_ = os.Remove(bin)
		caught := caughtBy.FindSubmatch(out)
		if err == nil || caught == nil {
			tail := string(out)
			t.Errorf("%s: not caught within %d scenarios (%v)\n%s", m.name, *seedsFlag, err, tail[max(0, len(tail)-500):])
			continue
		}
		t.Logf("%-45s caught after %s by %s", m.name, time.Since(begin).Round(100*time.Millisecond), caught[1])
	}
}
