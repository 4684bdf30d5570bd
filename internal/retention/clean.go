package retention

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/bundle"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/tasklog"
)

// Runs is what a Cleaner needs of the engine.
type Runs interface {
	DeleteRun(ctx context.Context, key store.RunKey) error
	TaskInstances(ctx context.Context, key store.RunKey) ([]airflow.TaskInstance, error)
}

// Cleaner removes what is too old. One per home may work at a time; it is safe
// beside a running server.
type Cleaner struct {
	Store   *store.Store
	Runs    Runs
	Logs    *tasklog.Logs
	Bundles *bundle.Store
	// State remembers between calls what was found unreferenced.
	State State
	Now   func() time.Time
	// RunRemoved is told of removed runs, so that what others keep of them goes
	// too; may be nil.
	RunRemoved func(store.RunKey) error
	// Grace protects documents and snapshots that were put more recently.
	// Default 1 h.
	Grace time.Duration
}

// Request says what to remove.
type Request struct {
	// Tables to clean; nil = all.
	Tables []Table
	// Before returns the date before which a table's data of a DAG are too old,
	// zero to keep them. dag "" stands for what belongs to no DAG, and for logs of
	// DAGs that the store does not know.
	Before func(t Table, dag airflow.DagID) time.Time
	// Dags restricts the request to these DAGs, if not nil; what belongs to no DAG
	// stays then. Except are left alone.
	Dags, Except []airflow.DagID
	DryRun       bool
	// Archive is the folder that rows are written to before they are removed;
	// "" removes them for good.
	Archive string
	// BatchSize is how many runs are archived and removed at once. Default 100.
	BatchSize int
	// Resume begins where the context of an earlier request with Resume ended,
	// for callers whose time is short. Only requests for the same tables of all DAGs
	// may have it.
	Resume bool
}

// Result is what was removed of a table, or would be.
type Result struct {
	Table Table `json:"table_name"`
	Rows  int   `json:"row_count"`
	Bytes int64 `json:"bytes"` // of files
	// Archive is the file that holds the removed rows, "" if there is none.
	Archive string `json:"archive,omitempty"`
}

// work is one request under way.
type work struct {
	*Cleaner
	q       Request
	now     time.Time
	results map[Table]*Result
	archive *archive
	memory  memory
	// counted are runs whose logs a dry run has counted with the run.
	counted map[airflow.DagID][]airflow.RunID
}

// Clean carries out a request. With an error, the results say what was done
// before it; repeating the request does the rest.
func (c *Cleaner) Clean(ctx context.Context, q Request) ([]Result, error) {
	if q.BatchSize <= 0 {
		q.BatchSize = 100
	}
	w := &work{Cleaner: c, q: q, now: c.Now().UTC(), results: map[Table]*Result{}, counted: map[airflow.DagID][]airflow.RunID{}}
	var err error
	if w.memory, err = readMemory(ctx, c.State); err != nil {
		return nil, err
	}
	if q.Archive != "" && !q.DryRun {
		w.archive = newArchive(q.Archive, w.now)
	}
	err = w.clean(ctx)
	if w.archive != nil {
		err = errors.Join(err, w.archive.Close())
		for t, file := range w.archive.names() {
			w.of(t).Archive = file
		}
	}
	if !q.DryRun {
		// Also when the time is over: what was done need not be looked at again.
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTime)
		err = errors.Join(err, w.memory.write(late, c.State))
		cancel()
	}
	var out []Result
	for _, t := range Tables {
		if r := w.results[t]; r != nil || q.wants(t) {
			out = append(out, *w.of(t))
		}
	}
	return out, err
}

// writeTime is what Clean may take beyond its context to write its state.
const writeTime = 3 * time.Second

func (q Request) wants(t Table) bool { return q.Tables == nil || slices.Contains(q.Tables, t) }

// covers reports whether the request is about a DAG.
func (q Request) covers(dag airflow.DagID) bool {
	return (q.Dags == nil || slices.Contains(q.Dags, dag)) && !slices.Contains(q.Except, dag)
}

func (w *work) of(t Table) *Result {
	if w.results[t] == nil {
		w.results[t] = &Result{Table: t}
	}
	return w.results[t]
}

func (w *work) before(t Table, dag airflow.DagID) time.Time {
	if !w.q.wants(t) {
		return time.Time{}
	}
	return w.q.Before(t, dag)
}

func (w *work) clean(ctx context.Context) error {
	dags, _, err := w.Store.ListDags(ctx, store.ListOptions{})
	if err != nil {
		return err
	}
	slices.SortFunc(dags, func(a, b airflow.DagModel) int { return strings.Compare(string(a.DagID), string(b.DagID)) })
	for _, m := range dags {
		if w.resumes() && m.DagID < w.memory.At.Dag {
			continue
		}
		if w.q.covers(m.DagID) {
			if err := w.dag(ctx, m.DagID); err != nil {
				return fmt.Errorf("DAG %q: %w", m.DagID, err)
			}
		}
	}
	if w.resumes() {
		w.memory.At = position{}
	}
	if err := w.taskLogs(ctx, dags); err != nil {
		return err
	}
	if w.q.Dags != nil {
		return nil
	}
	if err := w.audit(ctx); err != nil {
		return err
	}
	if err := w.assetEvents(ctx); err != nil {
		return err
	}
	return w.unreferenced(ctx, dags)
}

func (w *work) resumes() bool { return w.q.Resume && !w.q.DryRun && w.cleansRuns() }

func (w *work) cleansRuns() bool {
	return w.q.wants(DagRun) || w.q.wants(TaskInstance) || w.q.wants(XCom)
}

// dag cleans the runs of a DAG.
func (w *work) dag(ctx context.Context, id airflow.DagID) error {
	c := Cutoffs{Runs: w.before(DagRun, id), Tasks: w.before(TaskInstance, id), XComs: w.before(XCom, id)}
	if c.Latest().IsZero() {
		return nil
	}
	cursor, done, since := "", w.memory.XComs[id], c.XComs
	if w.resumes() {
		if at := w.memory.At; at.Dag == id {
			cursor = at.Cursor
			if !at.XComs.IsZero() && at.XComs.Before(since) {
				since = at.XComs
			}
		}
		w.memory.At = position{Dag: id, Cursor: cursor, XComs: since}
	}
	newest, err := w.newest(ctx, id)
	if err != nil {
		return err
	}
	for {
		// A run ends after its run_after: later ones cannot have ended before.
		runs, next, err := w.Store.ListRuns(ctx, id, store.ListOptions{To: store.RunsUntil(c.Latest()), Limit: w.q.BatchSize, Cursor: cursor})
		if err != nil {
			return err
		}
		p := PlanRuns(runs, newest, c)
		// XComs of runs that an earlier pass has stripped need no second look.
		p.XComs = slices.DeleteFunc(p.XComs, func(r airflow.DagRun) bool { return r.EndDate.Before(done) })
		if err := w.runs(ctx, p); err != nil {
			return err
		}
		if next == "" {
			break
		}
		cursor = next
		if w.resumes() {
			w.memory.At.Cursor = cursor
		}
	}
	if !c.XComs.IsZero() && !w.q.DryRun && since.After(done) {
		w.memory.XComs[id] = since
	}
	return nil
}

// newest returns the DAG's newest run that was not triggered by hand.
func (w *work) newest(ctx context.Context, id airflow.DagID) (airflow.RunID, error) {
	for cursor := ""; ; {
		runs, next, err := w.Store.ListRuns(ctx, id, store.ListOptions{Descending: true, Limit: 50, Cursor: cursor})
		if err != nil {
			return "", err
		}
		for _, r := range runs {
			if r.RunType != airflow.RunTypeManual {
				return r.RunID, nil
			}
		}
		if next == "" {
			return "", nil
		}
		cursor = next
	}
}

// runs archives and removes a batch.
func (w *work) runs(ctx context.Context, p RunPlan) error {
	type part struct {
		run airflow.DagRun
		tis []airflow.TaskInstance
	}
	var parts []part
	for _, r := range slices.Concat(p.Remove, p.Tasks, p.XComs) {
		tis, err := w.Runs.TaskInstances(ctx, keyOf(r))
		if errors.Is(err, airflow.ErrNotFound) {
			tis, err = nil, nil // its document or it itself is gone
		}
		if err != nil {
			return err
		}
		tis = slices.DeleteFunc(tis, func(ti airflow.TaskInstance) bool { return ti.StartDate == nil && ti.QueuedWhen == nil })
		parts = append(parts, part{r, tis})
	}
	for i, x := range parts {
		if i < len(p.Remove) {
			w.of(DagRun).Rows++
			w.archive.add(DagRun, x.run)
		}
		for _, ti := range x.tis {
			if i < len(p.Remove)+len(p.Tasks) {
				w.of(TaskInstance).Rows++
				w.archive.add(TaskInstance, ti)
			}
			xs, err := w.Store.ListXComs(ctx, ti.TaskInstanceKey)
			if err != nil {
				return err
			}
			for _, v := range xs {
				v.LogicalDate = x.run.LogicalDate
				w.of(XCom).Rows++
				w.archive.add(XCom, v)
			}
		}
	}
	if err := w.archive.sync(); err != nil {
		return err
	}
	for i, x := range parts {
		if i < len(p.Remove) {
			if err := w.removeRun(ctx, x.run); err != nil {
				return err
			}
			continue
		}
		if w.q.DryRun {
			continue
		}
		if same, err := w.unchanged(ctx, x.run); err != nil || !same {
			if err != nil {
				return err
			}
			continue
		}
		for _, ti := range x.tis {
			var err error
			if i < len(p.Remove)+len(p.Tasks) {
				err = w.Store.DeleteTaskInstance(ctx, ti.TaskInstanceKey)
			} else {
				_, err = w.Store.DeleteXComs(ctx, ti.TaskInstanceKey, false)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func keyOf(r airflow.DagRun) store.RunKey { return store.RunKey{DagID: r.DagID, RunID: r.RunID} }

// unchanged reports whether a run is still as it was when it was found too old:
// somebody may have cleared it since.
func (w *work) unchanged(ctx context.Context, r airflow.DagRun) (bool, error) {
	now, err := w.Store.GetRun(ctx, keyOf(r))
	if errors.Is(err, airflow.ErrNotFound) {
		return false, nil
	}
	return err == nil && now.State.Finished() && now.EndDate != nil && now.EndDate.Equal(*r.EndDate), err
}

// removeRun removes a run with all that belongs to it, its logs first: the run
// still tells where they are.
func (w *work) removeRun(ctx context.Context, r airflow.DagRun) error {
	if !w.q.DryRun {
		if same, err := w.unchanged(ctx, r); err != nil || !same {
			return err
		}
	}
	if w.Logs != nil {
		gone, err := w.Logs.DeleteRun(ctx, r.DagID, r.RunID, w.q.DryRun)
		if err != nil {
			return err
		}
		if gone.Files > 0 {
			w.of(TaskLog).Rows += gone.Files
			w.of(TaskLog).Bytes += gone.Bytes
		}
	}
	if w.q.DryRun {
		w.counted[r.DagID] = append(w.counted[r.DagID], r.RunID)
		return nil
	}
	if w.RunRemoved != nil {
		if err := w.RunRemoved(keyOf(r)); err != nil {
			return err
		}
	}
	err := w.Runs.DeleteRun(ctx, keyOf(r))
	if errors.Is(err, airflow.ErrNotFound) || errors.Is(err, airflow.ErrNotAllowed) {
		return nil // gone; or an instance outlives it, and it goes another time: the others must not wait for it
	}
	return err
}

// taskLogs removes log files by the date they were last written.
func (w *work) taskLogs(ctx context.Context, dags []airflow.DagModel) error {
	if !w.q.wants(TaskLog) || w.Logs == nil {
		return nil
	}
	active, err := w.Store.ListActiveRuns(ctx, "")
	if err != nil {
		return err
	}
	keep := w.counted
	for _, r := range active {
		keep[r.DagID] = append(keep[r.DagID], r.RunID)
	}
	remove := func(before time.Time, f tasklog.Filter) error {
		if before.IsZero() {
			return nil
		}
		f.KeepRuns = keep
		gone, err := w.Logs.DeleteBefore(ctx, before, f, w.q.DryRun)
		w.of(TaskLog).Rows += gone.Files
		w.of(TaskLog).Bytes += gone.Bytes
		return err
	}
	// Known DAGs one by one: each may have its own date.
	var known []airflow.DagID
	for _, m := range dags {
		known = append(known, m.DagID)
		if w.q.covers(m.DagID) {
			if err := remove(w.before(TaskLog, m.DagID), tasklog.Filter{Dag: m.DagID}); err != nil {
				return err
			}
		}
	}
	if w.q.Dags != nil {
		for _, id := range w.q.Dags {
			if !slices.Contains(known, id) && w.q.covers(id) {
				if err := remove(w.before(TaskLog, id), tasklog.Filter{Dag: id}); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return remove(w.before(TaskLog, ""), tasklog.Filter{KeepDags: slices.Concat(known, w.q.Except)})
}

// audit removes entries of the audit log.
func (w *work) audit(ctx context.Context) error {
	before := w.before(Log, "")
	if before.IsZero() {
		return nil
	}
	for cursor := ""; ; {
		es, next, err := w.Store.ListAudit(ctx, store.ListOptions{To: store.RunsUntil(before), Limit: 500, Cursor: cursor})
		if err != nil {
			return err
		}
		es = slices.DeleteFunc(es, func(e store.AuditEvent) bool {
			return !e.When.Before(before) || slices.Contains(w.q.Except, e.DagID) && e.DagID != ""
		})
		for _, e := range es {
			w.of(Log).Rows++
			w.archive.add(Log, e)
		}
		if err := w.archive.sync(); err != nil {
			return err
		}
		for _, e := range es {
			if !w.q.DryRun {
				if err := w.Store.DeleteAudit(ctx, e.ID); err != nil {
					return err
				}
			}
		}
		if next == "" {
			return nil
		}
		cursor = next
	}
}

// assetEvents removes events that no DAG still waits with and no unfinished run
// consumes.
func (w *work) assetEvents(ctx context.Context) error {
	before := w.before(AssetEvent, "")
	if before.IsZero() {
		return nil
	}
	waiting := map[store.AssetKey]time.Time{}
	queued, err := w.Store.ListAllQueuedAssets(ctx)
	if err != nil {
		return err
	}
	for _, q := range queued {
		k := store.AssetKey{Name: q.AssetName, URI: q.AssetURI}
		if t, ok := waiting[k]; !ok || q.CreatedAt.Before(t) {
			waiting[k] = q.CreatedAt
		}
	}
	used := map[string]bool{}
	active, err := w.Store.ListActiveRuns(ctx, "")
	if err != nil {
		return err
	}
	for _, r := range active {
		for _, id := range r.ConsumedAssetEvents {
			used[id] = true
		}
	}
	for cursor := ""; ; {
		es, next, err := w.Store.ListAllAssetEvents(ctx, store.ListOptions{To: store.RunsUntil(before), Limit: 500, Cursor: cursor})
		if err != nil {
			return err
		}
		es = slices.DeleteFunc(es, func(e airflow.AssetEvent) bool {
			since, waits := waiting[store.AssetKey{Name: e.AssetName, URI: e.AssetURI}]
			return !e.Timestamp.Before(before) || used[e.ID] || waits && !e.Timestamp.Before(since)
		})
		for _, e := range es {
			w.of(AssetEvent).Rows++
			w.archive.add(AssetEvent, e)
		}
		if err := w.archive.sync(); err != nil {
			return err
		}
		for _, e := range es {
			if !w.q.DryRun {
				if err := w.Store.DeleteAssetEvent(ctx, e); err != nil {
					return err
				}
			}
		}
		if next == "" {
			return nil
		}
		cursor = next
	}
}

// unreferenced removes documents and bundle snapshots that no DAG, version or
// run refers to.
func (w *work) unreferenced(ctx context.Context, dags []airflow.DagModel) error {
	if !w.q.wants(DagVersion) && !w.q.wants(Bundle) {
		return nil
	}
	// Documents first: what is put after this list is not in it.
	stored, err := w.Store.ListDocuments(ctx)
	if err != nil {
		return err
	}
	docs, bundles := map[string]bool{}, map[string]bool{}
	var mu sync.Mutex
	refer := func(doc, bundle string) {
		mu.Lock()
		defer mu.Unlock()
		docs[doc], bundles[bundle] = true, true
	}
	if err := w.references(ctx, dags, refer); err != nil {
		return err
	}
	grace := w.Grace
	if grace == 0 {
		grace = time.Hour
	}
	if w.q.wants(DagVersion) {
		if err := w.documents(ctx, stored, docs, grace); err != nil {
			return err
		}
	}
	if !w.q.wants(Bundle) || w.Bundles == nil {
		return nil
	}
	delete(bundles, "")
	got, err := w.Bundles.Collect(ctx, bundle.CollectOptions{Live: bundles, Grace: grace, DryRun: w.q.DryRun})
	w.of(Bundle).Rows += len(got.Bundles) + got.Blobs
	w.of(Bundle).Bytes += got.Bytes
	if err == nil && len(got.Missing) > 0 {
		err = fmt.Errorf("%d bundle snapshots that runs refer to are missing or damaged, so no file was removed: %v", len(got.Missing), got.Missing)
	}
	return err
}

// readers is how many DAGs are read at once: on AWS each read is a few
// milliseconds of waiting.
const readers = 8

// references tells refer, which several goroutines call, of all documents and
// snapshots that DAGs, versions and runs refer to.
func (w *work) references(ctx context.Context, dags []airflow.DagModel, refer func(doc, bundle string)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan airflow.DagModel)
	var all sync.WaitGroup
	for range readers {
		all.Go(func() {
			for m := range next {
				if err := w.referencesOf(ctx, m, refer); err != nil {
					cancel(err) // the others stop, too
				}
			}
		})
	}
	for _, m := range dags {
		next <- m
	}
	close(next)
	all.Wait()
	return context.Cause(ctx)
}

func (w *work) referencesOf(ctx context.Context, m airflow.DagModel, refer func(doc, bundle string)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	refer(m.LatestHash, m.BundleHash)
	vs, err := w.Store.ListDagVersions(ctx, m.DagID)
	if err != nil {
		return err
	}
	for _, v := range vs {
		refer(v.Hash, v.BundleHash)
	}
	for cursor := ""; ; {
		runs, next, err := w.Store.ListRuns(ctx, m.DagID, store.ListOptions{Limit: 500, Cursor: cursor})
		if err != nil {
			return err
		}
		for _, r := range runs {
			refer(r.DagHash, r.BundleHash)
		}
		if next == "" {
			return nil
		}
		cursor = next
	}
}

func (w *work) documents(ctx context.Context, stored []string, live map[string]bool, grace time.Duration) error {
	loose := map[string]int64{}
	for _, hash := range stored {
		if live[hash] {
			continue
		}
		puts, err := w.Store.DocumentPuts(ctx, hash)
		if errors.Is(err, airflow.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		loose[hash] = puts
	}
	remove, remember := PlanDocuments(loose, w.memory.Documents, w.now, grace)
	slices.Sort(remove)
	w.memory.Documents = remember
	for _, hash := range remove {
		done := true
		if !w.q.DryRun {
			var err error
			if done, err = w.Store.DeleteUnusedDocument(ctx, hash, loose[hash]); err != nil {
				return err
			}
		}
		if done {
			w.of(DagVersion).Rows++
		}
	}
	return nil
}
