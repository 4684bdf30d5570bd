package dagprocessor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/blob"
	"github.com/gustflow/gust/internal/store"
)

const (
	// batchFiles is how many files are parsed before they are registered: it bounds
	// the memory of a first scan and paces its progress.
	batchFiles = 256
	// storeParallelism is how many writes are under way at once: they wait for the
	// disk, which syncs many at the price of one.
	storeParallelism = 16
	// versionRuns bounds the runs that are read to see whether a version has one.
	versionRuns = 2000
)

// folderName stands for the DAG folder itself among import errors.
const folderName = "."

// process parses and registers files, sorted. It reports whether some changed
// while they were read.
func (s *syncing) process(todo []string) (changing bool) {
	p := s.p
	ps := p.parser()
	for batch := range slices.Chunk(todo, batchFiles) {
		parsed := ps.parseAll(s.ctx, batch, p.cfg.Parallelism)
		forEach(len(batch), storeParallelism, func(i int) {
			if parsed[i].err == nil && !parsed[i].changing {
				p.snapshot(s.ctx, parsed[i])
			}
		})
		if s.ctx.Err() != nil {
			return false
		}
		good := parsed[:0]
		for _, f := range parsed {
			switch {
			case f.err != nil:
				s.fail(fmt.Errorf("%s: %w", f.path, f.err))
				p.pending(f.path)
			case f.changing:
				changing = true
				s.relist = s.relist || f.relist
				p.pending(f.path)
			default:
				p.contents.settled(f.state.Deps)
				good = append(good, f)
			}
		}
		s.register(good)
		s.parsed += len(batch)
		p.cfg.Progress(Progress{Parsed: s.parsed, Total: s.total})
		if p.cfg.Checkpoint > 0 && p.cfg.Now().Sub(s.saved) >= p.cfg.Checkpoint {
			s.settle()
		}
	}
	return changing
}

func (p *Processor) parser() *parser {
	return &parser{src: p.cfg.Source, loader: p.cfg.Loader, opts: p.cfg.Scan, timeout: p.cfg.LoadTimeout, now: p.cfg.Now, log: p.cfg.Log.Error, warn: p.cfg.Warn}
}

// pending marks a file to be parsed again.
func (p *Processor) pending(f string) {
	if p.files[f] == nil {
		p.files[f] = &fileState{}
	}
	p.files[f].Pending = true
	p.saved = false
}

// registration is a DAG on its way into the Store.
type registration struct {
	file *parsedFile
	parsedDag
	known bool // there is a model
	model airflow.DagModel
	old   *airflow.DAG // the document of the latest version; nil if there is none or it cannot be read

	written bool
	err     error
}

func (r *registration) id() airflow.DagID { return r.dag.DagID }

// register brings a batch of parsed files into the Store. Each step can be
// repeated: a file is settled only when all of it is there.
func (s *syncing) register(files []*parsedFile) {
	p := s.p
	kept, failed := s.release(files)
	regs := s.claim(files)
	p.current(s.ctx, regs)
	s.writeDags(regs)

	loaded := map[string][]dagState{}
	for _, r := range regs {
		var inv *airflow.InvalidError
		switch {
		case errors.As(r.err, &inv):
			r.file.invalid(string(r.id()), r.err)
			if r.known {
				kept[r.file.path] = append(kept[r.file.path], r.id())
			}
		case r.err != nil:
			failed[r.file.path] = true
			s.fail(fmt.Errorf("%s: DAG %q: %w", r.file.path, r.id(), r.err))
		default:
			loaded[r.file.path] = append(loaded[r.file.path], dagState{r.id(), r.hash, r.bundle, len(r.dag.Tasks)})
			p.untold[r.id()] = true
			if r.written {
				s.changed[r.id()] = true
			}
		}
	}
	for _, f := range files {
		err := s.markBroken(kept[f.path])
		if err == nil {
			err = s.setImportError(f.path, f.problems, kept[f.path])
		}
		if err != nil {
			s.fail(err)
		}
		for _, w := range f.warnings {
			p.cfg.Log.Info("DAG file: " + w.String())
		}
		if err != nil || failed[f.path] {
			p.pending(f.path)
			continue
		}
		f.state.Dags = loaded[f.path]
		if f.state.Broken = len(f.problems) > 0; f.state.Broken {
			if at := p.cfg.Now().Add(p.cfg.MendInterval); f.state.ValidUntil.IsZero() || at.Before(f.state.ValidUntil) {
				f.state.ValidUntil = at
			}
			s.lookAgainAt(f.state.ValidUntil)
		}
		p.files[f.path] = f.state
		p.saved = false
	}
}

// release lets go of DAGs that files do not define any more: those of a file
// without problems become stale, those of a broken one are kept as they are.
// Files for which that failed are returned.
func (s *syncing) release(files []*parsedFile) (kept map[string][]airflow.DagID, failed map[string]bool) {
	p := s.p
	kept, failed = map[string][]airflow.DagID{}, map[string]bool{}
	var gone []airflow.DagID
	for _, f := range files {
		p.clearConflicts(f.path)
		defined := map[airflow.DagID]bool{}
		for _, d := range f.dags {
			defined[d.dag.DagID] = true
		}
		for _, id := range p.ownedBy(f.path) {
			switch {
			case defined[id]:
			case len(f.problems) == 0:
				gone = append(gone, id)
			default:
				kept[f.path] = append(kept[f.path], id)
			}
		}
	}
	for id := range s.markStale(gone) {
		failed[p.owner[id]] = true
	}
	return kept, failed
}

// claim gives each DAG to the file that defines it, unless another file that
// still exists has it.
func (s *syncing) claim(files []*parsedFile) []*registration {
	p := s.p
	var regs []*registration
	for _, f := range files {
		for _, d := range f.dags {
			id := d.dag.DagID
			if other, owned := p.owner[id]; owned && other != f.path && s.exists(other) {
				p.conflict(id, f.path)
				f.state.Conflicts = append(f.state.Conflicts, id)
				f.problems = append(f.problems, airflow.Problem{
					File: f.path, Field: string(id), Severity: "error", Class: "AirflowDagDuplicatedIdException",
					Message: fmt.Sprintf("DAG %q of %s is already defined in %s, which keeps it: give one of them another dag_id, or remove it there", id, f.path, other),
				})
				continue
			}
			p.own(f.path, id)
			regs = append(regs, &registration{file: f, parsedDag: d})
		}
	}
	return regs
}

// exists reports whether a DAG file is there, also when it cannot be read.
func (s *syncing) exists(f string) bool {
	_, found := slices.BinarySearch(s.out.files, f)
	return found || s.out.hidden(f)
}

// current reads what the Store has of DAGs.
func (p *Processor) current(ctx context.Context, regs []*registration) {
	forEach(len(regs), storeParallelism, func(i int) {
		r := regs[i]
		m, err := p.cfg.Store.GetDag(ctx, r.id())
		if errors.Is(err, airflow.ErrNotFound) {
			return
		}
		if err != nil {
			r.err = err
			return
		}
		r.known, r.model = true, m
		if m.LatestHash == r.hash {
			r.old = r.dag
			return
		}
		r.old, r.err = p.oldDocument(ctx, m)
	})
}

// oldDocument reads the latest document of a DAG; one that is missing or that
// this program cannot read is nil, not an error.
func (p *Processor) oldDocument(ctx context.Context, m airflow.DagModel) (*airflow.DAG, error) {
	dag, err := p.document(ctx, m.LatestHash)
	var inv *airflow.InvalidError
	if errors.Is(err, airflow.ErrNotFound) || errors.As(err, &inv) {
		p.cfg.Log.Warn("the latest document of a DAG cannot be read", "dag_id", m.DagID, "err", err)
		return nil, nil
	}
	return dag, err
}

// writeDags writes assets, versions and models. The model goes last: once it
// names the document, everything else is there.
func (s *syncing) writeDags(regs []*registration) {
	p := s.p
	var changes []dagAssets
	for _, r := range regs {
		if r.err != nil || r.known && r.model.LatestHash == r.hash && !r.model.IsStale {
			continue
		}
		c := dagAssets{id: r.id(), now: usesOf(r.dag)}
		if r.known && !r.model.IsStale {
			c.old = usesOf(r.old)
		}
		changes = append(changes, c)
	}
	if err := p.updateAssets(s.ctx, changes); err != nil {
		for _, r := range regs {
			if r.err == nil {
				r.err = err
			}
		}
		return
	}
	forEach(len(regs), storeParallelism, func(i int) {
		if r := regs[i]; r.err == nil {
			r.err = p.writeDag(s.ctx, r)
		}
	})
}

// errChanged says that somebody else registered the DAG meanwhile.
var errChanged = errors.New("the DAG was registered by another process meanwhile")

// writeDag writes the version and the model of a DAG where they differ.
func (p *Processor) writeDag(ctx context.Context, r *registration) error {
	for attempt := 0; ; attempt++ {
		err := p.tryWriteDag(ctx, r)
		if !errors.Is(err, errChanged) && !errors.Is(err, airflow.ErrAlreadyExists) || attempt == store.UpdateAttempts {
			return err
		}
		if r.model, err = p.cfg.Store.GetDag(ctx, r.id()); err != nil {
			return err
		}
		r.known, r.old = true, nil
	}
}

func (p *Processor) tryWriteDag(ctx context.Context, r *registration) error {
	now := p.cfg.Now().UTC()
	if !r.known {
		m := airflow.DagModel{DagID: r.id(), IsPaused: *p.cfg.PausedAtCreation, LatestVersion: 1}
		if r.dag.IsPausedUponCreation != nil {
			m.IsPaused = *r.dag.IsPausedUponCreation
		}
		p.facts(&m, r)
		m.LastParsedTime = &now
		if err := p.cfg.NextDates(ctx, &m, r.dag); err != nil {
			return err
		}
		v := airflow.DagVersion{DagID: r.id(), Number: 1, Hash: r.hash, BundleHash: r.bundle, CreatedAt: now}
		if err := p.cfg.Store.PutDagVersion(ctx, v); err != nil {
			return err
		}
		err := p.cfg.Store.CreateDag(ctx, m)
		r.written = err == nil
		return err
	}
	base := r.model
	want := base
	p.facts(&want, r)
	if sameJSON(base, want) {
		return nil
	}
	version, err := p.putVersion(ctx, r, now)
	if err != nil {
		return err
	}
	reschedule := base.IsStale || base.HasImportErrors || r.old == nil || scheduleOf(r.old) != scheduleOf(r.dag)
	_, err = p.cfg.Store.UpdateDag(ctx, r.id(), func(m *airflow.DagModel) error {
		if m.LatestHash != base.LatestHash || m.LatestVersion != base.LatestVersion {
			return errChanged
		}
		p.facts(m, r)
		m.LatestVersion = version
		m.LastParsedTime = &now
		if !reschedule {
			return nil
		}
		return p.cfg.NextDates(ctx, m, r.dag)
	})
	r.written = err == nil
	return err
}

// facts sets what the file says of a DAG, all but the version's number.
func (p *Processor) facts(m *airflow.DagModel, r *registration) {
	d := r.dag
	m.IsStale, m.HasImportErrors = false, false
	m.RelativeFileloc, m.Fileloc = r.file.path, p.cfg.Source.Name(r.file.path)
	m.LatestHash, m.BundleHash = r.hash, r.bundle
	m.DagDisplayName, m.Description = d.DagDisplayName, d.Description
	setDefault(&m.DagDisplayName, m.DagDisplayName == "", string(d.DagID))
	owners := map[string]bool{}
	for _, t := range d.Tasks {
		owners[t.Owner] = true
	}
	m.Owners = append([]string{}, slices.Sorted(keysOf(owners))...)
	m.Tags = append([]string{}, d.Tags...)
	sort.Strings(m.Tags)
	m.Tags = slices.Compact(m.Tags)
	m.TimetableSummary, m.TimetableDescription = r.summary, r.description
}

// putVersion writes the version record of a DAG that changed and returns its
// number: a new one if the document changed and the current version has a run.
func (p *Processor) putVersion(ctx context.Context, r *registration, now time.Time) (int, error) {
	m := r.model
	if m.LatestHash == r.hash && m.BundleHash == r.bundle {
		return m.LatestVersion, nil
	}
	v := airflow.DagVersion{DagID: r.id(), Number: max(m.LatestVersion, 1), CreatedAt: now}
	used := false
	var err error
	if m.LatestHash != r.hash {
		if used, err = p.hasRuns(ctx, r.id(), m.LatestVersion); err != nil {
			return 0, err
		}
	}
	if used {
		v.Number++
	} else if have, err := p.cfg.Store.GetDagVersion(ctx, r.id(), v.Number); err == nil {
		v.CreatedAt = have.CreatedAt
	} else if !errors.Is(err, airflow.ErrNotFound) {
		return 0, err
	}
	v.Hash, v.BundleHash = r.hash, r.bundle
	return v.Number, p.cfg.Store.PutDagVersion(ctx, v)
}

// hasRuns reports whether a version has a run: among the newest runs, which the
// latest version's are as a rule, and the unfinished ones. A DAG with so many
// runs that not all are read is taken to have one: a version more is harmless, a
// version overwritten under its runs is not.
func (p *Processor) hasRuns(ctx context.Context, id airflow.DagID, version int) (bool, error) {
	of := func(r airflow.DagRun) bool { return r.DagVersion == version }
	for read, cursor := 0, ""; ; {
		runs, next, err := p.cfg.Store.ListRuns(ctx, id, store.ListOptions{Descending: true, Limit: 50, Cursor: cursor})
		if err != nil || slices.ContainsFunc(runs, of) {
			return err == nil, err
		}
		read += len(runs)
		if next == "" || len(runs) == 0 {
			return false, nil
		}
		if read >= versionRuns {
			return true, nil
		}
		cursor = next
	}
}

// scheduleOf is everything of a DAG that decides when its runs are created.
func scheduleOf(d *airflow.DAG) string {
	start, end := bounds(d)
	b, err := json.Marshal([]any{d.Timetable, start, end, d.Catchup, d.MaxActiveRuns, d.AllowedRunTypes})
	if err != nil {
		return "" // a timetable that is not JSON was refused when it was parsed
	}
	return string(b)
}

// bounds returns the earliest start and the latest end of a DAG and its tasks.
func bounds(d *airflow.DAG) (start, end *time.Time) {
	start, end = d.StartDate, d.EndDate
	for _, t := range d.Tasks {
		if t.StartDate != nil && (start == nil || t.StartDate.Before(*start)) {
			start = t.StartDate
		}
		if t.EndDate != nil && (end == nil || t.EndDate.After(*end)) {
			end = t.EndDate
		}
	}
	return start, end
}

// markStale takes DAGs off their file: no new runs, their assets lose them. It
// returns those for which it failed.
func (s *syncing) markStale(ids []airflow.DagID) map[airflow.DagID]bool {
	p := s.p
	failed := map[airflow.DagID]bool{}
	errs := make([]error, len(ids))
	uses := make([]assetUses, len(ids))
	forEach(len(ids), storeParallelism, func(i int) {
		m, err := p.cfg.Store.GetDag(s.ctx, ids[i])
		if errors.Is(err, airflow.ErrNotFound) {
			return
		}
		if err == nil {
			var dag *airflow.DAG
			if dag, err = p.oldDocument(s.ctx, m); err == nil {
				uses[i] = usesOf(dag)
			}
		}
		errs[i] = err
	})
	var changes []dagAssets
	for i, id := range ids {
		if errs[i] == nil {
			changes = append(changes, dagAssets{id: id, old: uses[i]})
		}
	}
	if err := p.updateAssets(s.ctx, changes); err != nil {
		for i := range errs {
			errs[i] = errors.Join(errs[i], err)
		}
	}
	forEach(len(ids), storeParallelism, func(i int) {
		if errs[i] != nil {
			return
		}
		_, err := p.cfg.Store.UpdateDag(s.ctx, ids[i], func(m *airflow.DagModel) error {
			m.IsStale, m.HasImportErrors = true, false
			return nil
		})
		if !errors.Is(err, airflow.ErrNotFound) {
			errs[i] = err
		}
	})
	for i, id := range ids {
		if errs[i] != nil {
			failed[id] = true
			s.fail(fmt.Errorf("DAG %q: %w", id, errs[i]))
			continue
		}
		p.disown(id)
		p.untold[id] = true
		s.changed[id], s.stale[id] = true, true
	}
	return failed
}

// markBroken sets HasImportErrors on DAGs that keep their last good version.
func (s *syncing) markBroken(ids []airflow.DagID) error {
	for _, id := range ids {
		m, err := s.p.cfg.Store.GetDag(s.ctx, id)
		if errors.Is(err, airflow.ErrNotFound) || err == nil && m.HasImportErrors {
			s.p.untold[id] = true
			continue
		}
		if err == nil {
			_, err = s.p.cfg.Store.UpdateDag(s.ctx, id, func(m *airflow.DagModel) error {
				m.HasImportErrors = true
				return nil
			})
		}
		if err != nil {
			return fmt.Errorf("DAG %q: %w", id, err)
		}
		s.p.untold[id] = true
		s.changed[id] = true
	}
	return nil
}

// setImportError records the problems of a file, or that it has none, if the
// Store says something else.
func (s *syncing) setImportError(f string, problems []airflow.Problem, kept []airflow.DagID) error {
	p := s.p
	if len(problems) == 0 {
		if _, have := p.errs[f]; !have {
			return nil
		}
		if err := p.cfg.Store.DeleteImportError(s.ctx, f); err != nil {
			return fmt.Errorf("import error of %s: %w", f, err)
		}
		delete(p.errs, f)
		return nil
	}
	slices.Sort(kept)
	e := airflow.ImportError{Filename: f, Timestamp: p.cfg.Now().UTC(), Problems: problems, DagIDs: kept}
	digest := digestOf(e)
	if p.errs[f] == digest {
		return nil
	}
	if err := p.cfg.Store.PutImportError(s.ctx, e); err != nil {
		return fmt.Errorf("import error of %s: %w", f, err)
	}
	p.errs[f] = digest
	return nil
}

// digestOf is the same for import errors that say the same.
func digestOf(e airflow.ImportError) string {
	b, err := json.Marshal([]any{e.Problems, e.DagIDs})
	if err != nil {
		return ""
	}
	return blob.Hash(b)
}

// folderProblems records what is wrong with the folder itself.
func (s *syncing) folderProblems() {
	var problems []airflow.Problem
	for _, m := range s.out.problems {
		problems = append(problems, airflow.Problem{File: folderName, Message: m, Severity: "error"})
	}
	s.fail(s.setImportError(folderName, problems, nil))
}
