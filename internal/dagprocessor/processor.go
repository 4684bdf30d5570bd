package dagprocessor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store"
)

// Processor registers the DAGs of one folder. Its methods may be called
// concurrently; scans happen one after the other.
type Processor struct {
	cfg Config

	kick   chan struct{} // asks Run for a scan
	broken atomic.Bool   // some file has an import error
	ready  chan struct{} // closed after the first scan
	once   sync.Once

	// askMu guards what is asked of the next scan.
	askMu sync.Mutex
	force map[string]bool // keys whose content is read whatever their stat
	again map[string]bool // files to parse although nothing changed
	all   bool            // all of them
	mend  bool            // those with an import error: a Python file has changed
	// deleted are DAGs that somebody deleted from the Store.
	deleted map[airflow.DagID]bool

	// scanMu is held by a scan and guards everything below.
	scanMu    sync.Mutex
	cacheRead bool
	// loaded says that what follows agrees with the Store.
	loaded   bool
	contents *contents
	files    map[string]*fileState
	// byFile and owner say which DAGs the Store has of which file; a stale DAG has
	// no owner.
	byFile map[string]map[airflow.DagID]bool
	owner  map[airflow.DagID]string
	// conflicts are the files that define a DAG of another file.
	conflicts map[airflow.DagID]map[string]bool
	// gone is when a file was first missed.
	gone map[string]time.Time
	// errs are digests of the import errors in the Store, by file.
	errs   map[string]string
	assets *assetIndex
	// untold are DAGs that Announce has not been told of.
	untold map[airflow.DagID]bool
	saved  bool     // the cache holds files, contents and gone
	watch  *watcher // while Run runs
	next   nextScan
}

// New returns a processor; nothing is read until Sync or Run.
func New(c Config) (*Processor, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Processor{
		cfg: c, kick: make(chan struct{}, 1), ready: make(chan struct{}),
		force: map[string]bool{}, again: map[string]bool{}, deleted: map[airflow.DagID]bool{},
		contents: newContents(c.Source, c.Scan.MaxFileBytes, c.Now), files: map[string]*fileState{},
		byFile: map[string]map[airflow.DagID]bool{}, owner: map[airflow.DagID]string{},
		conflicts: map[airflow.DagID]map[string]bool{}, gone: map[string]time.Time{}, errs: map[string]string{}, untold: map[airflow.DagID]bool{},
	}, nil
}

// Ready is closed when the first scan is done.
func (p *Processor) Ready() <-chan struct{} { return p.ready }

// Reparse asks for files (relative to the DAG folder) to be parsed again although
// nothing changed: after a DAG was deleted from the Store, or on a user's wish
// (dags reserialize). Without a path all are. Run or the next Sync does it.
func (p *Processor) Reparse(paths ...string) {
	p.askMu.Lock()
	for _, f := range paths {
		p.again[filepath.ToSlash(filepath.Clean(f))] = true
	}
	p.all = p.all || len(paths) == 0
	p.askMu.Unlock()
	p.wake()
}

// Deleted tells of DAGs that may have been deleted from the Store: files that still
// define such a DAG are parsed again with the next full scan, which brings it back
// as a new one.
func (p *Processor) Deleted(ctx context.Context, ids ...airflow.DagID) error {
	var errs []error
	for _, id := range ids {
		switch _, err := p.cfg.Store.GetDag(ctx, id); {
		case errors.Is(err, airflow.ErrNotFound):
			p.askMu.Lock()
			p.deleted[id] = true
			p.askMu.Unlock()
		case err != nil:
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Mend asks for files with an import error to be parsed again with the next scan: what
// they were looking for may be there now.
func (p *Processor) Mend() {
	p.askMu.Lock()
	p.mend = true
	p.askMu.Unlock()
	p.wake()
}

// InputNames returns the inputs of all files beside other files, for Loader.Inputs,
// sorted.
func (p *Processor) InputNames() []string {
	p.scanMu.Lock()
	defer p.scanMu.Unlock()
	names := map[string]bool{}
	for _, st := range p.files {
		for _, n := range st.Inputs {
			names[n] = true
		}
	}
	return slices.Sorted(keysOf(names))
}

// wake asks Run for a scan.
func (p *Processor) wake() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// RefreshNextDates computes the next run of a DAG again: for callers that
// un-paused it. A DAG that is unknown is airflow.ErrNotFound.
func (p *Processor) RefreshNextDates(ctx context.Context, id airflow.DagID) (airflow.DagModel, error) {
	m, err := p.cfg.Store.GetDag(ctx, id)
	if err != nil {
		return m, err
	}
	dag, err := p.document(ctx, m.LatestHash)
	if err != nil {
		return m, err
	}
	return p.cfg.Store.UpdateDag(ctx, id, func(m *airflow.DagModel) error { return p.cfg.NextDates(ctx, m, dag) })
}

// document reads a DAG's document from the Store.
func (p *Processor) document(ctx context.Context, hash string) (*airflow.DAG, error) {
	doc, err := p.cfg.Store.GetDocument(ctx, hash)
	if err != nil {
		return nil, fmt.Errorf("DAG document %s: %w", hash, err)
	}
	dag, err := airflow.ParseDAG(doc)
	if err != nil {
		return nil, fmt.Errorf("DAG document %s: %w", hash, err)
	}
	return dag, nil
}

// Sync scans the folder once and registers what changed. An error is what kept
// it from being complete: the rest is registered, and the next Sync tries again.
func (p *Processor) Sync(ctx context.Context) (Summary, error) {
	p.scanMu.Lock()
	defer p.scanMu.Unlock()
	start := p.cfg.Now()
	s := &syncing{p: p, ctx: ctx, changed: map[airflow.DagID]bool{}, stale: map[airflow.DagID]bool{}}
	p.next = nextScan{}
	s.saved = start
	err := s.run()
	p.next = nextScan{rescan: s.rescan, at: s.rescanAt, walked: s.walked}
	sum := s.summary(start)
	if sum.Next = s.rescanAt; s.rescan {
		sum.Next = p.cfg.Now()
	}
	p.broken.Store(sum.ImportErrors > 0)
	sum.Err, sum.CacheErr = err, s.cacheErr
	if len(sum.Changed) > 0 {
		p.cfg.OnChange(sum.Changed)
	}
	if ctx.Err() == nil && !errors.Is(err, errFolder) {
		p.once.Do(func() { close(p.ready) })
	}
	p.cfg.OnScan(sum)
	return sum, err
}

// errFolder says that the DAG folder itself cannot be read: nothing is changed,
// and no DAG becomes stale.
var errFolder = errors.New("DAG folder cannot be read")

// readAttempts is how often a scan reads a file that changes while it is read.
const readAttempts = 3

// syncing is one scan.
type syncing struct {
	p   *Processor
	ctx context.Context
	out *found

	parsed  int
	total   int
	changed map[airflow.DagID]bool
	stale   map[airflow.DagID]bool
	// rescan says that a file changed while it was read, or that a file must be
	// looked at again at a certain time.
	rescan   bool
	rescanAt time.Time
	// relist says that the source has changed since it was listed.
	relist   bool
	cacheErr error
	// saved is when the cache was written last.
	saved  time.Time
	walked time.Duration
	errs   []error
}

func (s *syncing) fail(err error) {
	if err != nil {
		s.errs = append(s.errs, err)
	}
}

// lookAgainAt asks for another scan at t.
func (s *syncing) lookAgainAt(t time.Time) {
	if s.rescanAt.IsZero() || t.Before(s.rescanAt) {
		s.rescanAt = t
	}
}

func (s *syncing) run() error {
	p := s.p
	p.askMu.Lock()
	force, again, all, mend := p.force, p.again, p.all, p.mend
	p.force, p.again, p.all, p.mend = map[string]bool{}, map[string]bool{}, false, false
	for id := range p.deleted {
		if f, ok := p.owner[id]; ok {
			again[f] = true
		}
	}
	clear(p.deleted)
	p.askMu.Unlock()
	restore := func() {
		p.askMu.Lock()
		defer p.askMu.Unlock()
		for k := range force {
			p.force[k] = true
		}
		for k := range again {
			p.again[k] = true
		}
		p.all, p.mend = p.all || all, p.mend || mend
	}
	if !p.loaded {
		if err := p.load(s.ctx); err != nil {
			restore()
			return err
		}
	}
	walk := time.Now()
	onDir := func(string) {}
	if p.watch != nil {
		p.watch.begin(p.cfg.Folder)
		onDir = p.watch.add
	}
	out, err := scan(s.ctx, p.cfg.Source, p.cfg.Scan, onDir)
	s.walked = time.Since(walk)
	if err != nil {
		restore()
		if s.ctx.Err() != nil {
			return s.ctx.Err()
		}
		return fmt.Errorf("%w: %w", errFolder, err)
	}
	s.out = out
	p.contents.begin(out.stamps, force)
	for _, f := range out.files {
		if !p.gone[f].IsZero() {
			delete(p.gone, f)
			p.saved = false
		}
		if st := p.files[f]; st != nil && (all || again[f] || mend && st.Broken) {
			st.Pending = true
		}
	}
	for attempt := 1; s.ctx.Err() == nil; attempt++ {
		todo := s.outdated()
		s.total += len(todo)
		changing := s.process(todo)
		if s.ctx.Err() != nil {
			break
		}
		s.vanished()
		if len(s.errs) > 0 {
			break
		}
		if s.relist || changing && attempt >= readAttempts {
			s.rescan = true // somebody is writing: look again after a pause
			break
		}
		if !s.freed() && !changing {
			break
		}
	}
	if s.ctx.Err() != nil {
		restore()
		p.loaded = false // it is not known what the Store took
		return s.ctx.Err()
	}
	s.folderProblems()
	s.settle()
	if p.watch != nil {
		p.watch.end(out.dirs, p.relevant(s.parsed > 0 || !p.watch.informed()))
	}
	if len(s.errs) > 0 {
		p.loaded = false // it is not known what the Store took
	}
	return errors.Join(s.errs...)
}

// outdated returns the files that must be parsed, sorted.
func (s *syncing) outdated() []string {
	p := s.p
	inputs := map[string]string{}
	var todo []string
	for _, f := range s.out.files {
		st := p.files[f]
		if st == nil || st.Pending || s.isOutdated(f, st, inputs) {
			todo = append(todo, f)
		}
	}
	return todo
}

func (s *syncing) isOutdated(f string, st *fileState, inputs map[string]string) bool {
	p := s.p
	if !st.ValidUntil.IsZero() {
		if !p.cfg.Now().Before(st.ValidUntil) {
			return true
		}
		s.lookAgainAt(st.ValidUntil)
	}
	for _, d := range st.Deps {
		h, err := p.contents.hash(s.ctx, d.Path)
		if err != nil || h != d.Hash {
			return true // one that cannot be read is reported when it is parsed
		}
		if d.Mode != "" && !p.contents.sameMode(d.Path, d.Mode) {
			return true
		}
	}
	if len(st.Inputs) > 0 {
		key := fmt.Sprintf("%q", st.Inputs)
		digest, ok := inputs[key]
		if !ok {
			var err error
			if digest, err = p.cfg.Loader.Inputs(s.ctx, st.Inputs); err != nil {
				s.fail(fmt.Errorf("%s: %w", f, err))
				return false
			}
			inputs[key] = digest
		}
		return digest != st.InputDigest
	}
	return false
}

// freed marks files that define a DAG which has just lost its owner, so that
// they are parsed again, and reports whether there are any.
func (s *syncing) freed() bool {
	p := s.p
	any := false
	for id, files := range p.conflicts {
		if _, owned := p.owner[id]; owned {
			continue
		}
		for f := range files {
			// A file that is not there any more lets go of its conflicts later.
			if _, found := slices.BinarySearch(s.out.files, f); found && p.files[f] != nil {
				p.files[f].Pending = true
				any = true
			}
		}
	}
	return any
}

// load takes up where an earlier process, or a scan that failed, left off: the
// cache, compared with what the Store has.
func (p *Processor) load(ctx context.Context) error {
	if !p.cacheRead {
		if err := p.readCache(ctx); err != nil {
			return err
		}
	}
	models, _, err := p.cfg.Store.ListDags(ctx, store.ListOptions{})
	if err != nil {
		return fmt.Errorf("dagprocessor: list the DAGs: %w", err)
	}
	importErrors, err := p.cfg.Store.ListImportErrors(ctx)
	if err != nil {
		return fmt.Errorf("dagprocessor: list the import errors: %w", err)
	}
	assets, err := p.cfg.Store.ListAssets(ctx)
	if err != nil {
		return fmt.Errorf("dagprocessor: list the assets: %w", err)
	}
	p.assets = newAssetIndex(assets)
	clear(p.byFile)
	clear(p.owner)
	clear(p.conflicts)
	clear(p.errs)
	byID := make(map[airflow.DagID]airflow.DagModel, len(models))
	for _, m := range models {
		byID[m.DagID] = m
		if !m.IsStale {
			p.own(m.RelativeFileloc, m.DagID)
		}
	}
	for _, e := range importErrors {
		p.errs[e.Filename] = digestOf(e)
	}
	if err := p.settleAssets(ctx, sortedAssets(p.assets.records), nil); err != nil {
		return err
	}
	for f, st := range p.files {
		_, broken := p.errs[f]
		st.Pending = st.Pending || broken != st.Broken || !p.registered(ctx, f, st, byID)
		for _, id := range st.Conflicts {
			p.conflict(id, f)
		}
	}
	p.loaded = true
	return nil
}

func (p *Processor) readCache(ctx context.Context) error {
	p.saved = false
	if p.cfg.Cache != nil {
		data, err := p.cfg.Cache.Read(ctx)
		if err != nil {
			return fmt.Errorf("dagprocessor: read the parse cache: %w", err)
		}
		p.files, p.contents.known, p.gone = map[string]*fileState{}, map[string]*content{}, map[string]time.Time{}
		if d := decodeCache(data, p.cfg.Source.Root(), p.cfg.Loader.Fingerprint()); d != nil {
			p.saved = true
			p.files, p.contents.known, p.gone = d.Files, d.Contents, d.Gone
		}
	}
	p.cacheRead = true
	return nil
}

// registered reports whether the Store has what the cache says of a file.
func (p *Processor) registered(ctx context.Context, f string, st *fileState, models map[airflow.DagID]airflow.DagModel) bool {
	for _, d := range st.Dags {
		m, ok := models[d.DagID]
		if !ok || m.IsStale || m.HasImportErrors || m.RelativeFileloc != f || m.LatestHash != d.Hash || m.BundleHash != d.Bundle {
			return false
		}
		if ok, err := p.cfg.Bundles.Has(ctx, d.Bundle); err != nil || !ok {
			return false
		}
	}
	return true
}

// own records that a file owns a DAG.
func (p *Processor) own(f string, id airflow.DagID) {
	if old, ok := p.owner[id]; ok && old != f {
		delete(p.byFile[old], id)
	}
	p.owner[id] = f
	if p.byFile[f] == nil {
		p.byFile[f] = map[airflow.DagID]bool{}
	}
	p.byFile[f][id] = true
}

// disown records that no file defines a DAG any more.
func (p *Processor) disown(id airflow.DagID) {
	f, ok := p.owner[id]
	if !ok {
		return
	}
	delete(p.owner, id)
	delete(p.byFile[f], id)
	if len(p.byFile[f]) == 0 {
		delete(p.byFile, f)
	}
}

func (p *Processor) conflict(id airflow.DagID, f string) {
	if p.conflicts[id] == nil {
		p.conflicts[id] = map[string]bool{}
	}
	p.conflicts[id][f] = true
}

func (p *Processor) clearConflicts(f string) {
	st := p.files[f]
	if st == nil {
		return
	}
	for _, id := range st.Conflicts {
		delete(p.conflicts[id], f)
		if len(p.conflicts[id]) == 0 {
			delete(p.conflicts, id)
		}
	}
}

// ownedBy returns the DAGs of a file, sorted.
func (p *Processor) ownedBy(f string) []airflow.DagID {
	return slices.Sorted(keysOf(p.byFile[f]))
}

// settle announces what was registered and then writes the cache: what the cache
// holds was announced.
func (s *syncing) settle() {
	p := s.p
	s.saved = p.cfg.Now()
	if len(p.untold) > 0 && p.cfg.Announce != nil {
		if err := p.cfg.Announce(s.ctx, slices.Sorted(keysOf(p.untold))); err != nil {
			s.fail(fmt.Errorf("dagprocessor: announce the DAGs that changed: %w", err))
			return
		}
	}
	clear(p.untold)
	s.cacheErr = p.save(s.ctx)
}

// save writes the cache if it is behind.
func (p *Processor) save(ctx context.Context) error {
	if p.cfg.Cache == nil || p.saved && !p.contents.dirty {
		return nil
	}
	for _, c := range p.contents.known {
		c.seen = false
	}
	doc := cacheDoc{
		Format: cacheFormat, Root: p.cfg.Source.Root(), Fingerprint: p.cfg.Loader.Fingerprint(),
		Contents: p.contents.known, Files: map[string]*fileState{}, Gone: p.gone,
	}
	for f, st := range p.files {
		for _, d := range st.Deps {
			if c := p.contents.known[d.Path]; c != nil {
				c.seen = true
			}
		}
		if !st.Pending {
			doc.Files[f] = st
		}
	}
	for k, c := range p.contents.known {
		if !c.seen {
			delete(p.contents.known, k)
		}
	}
	data, err := json.Marshal(doc)
	if err == nil {
		err = p.cfg.Cache.Write(ctx, data)
	}
	if err != nil {
		p.cfg.Log.Warn("the parse cache cannot be written: the next start parses DAG files again", "err", err)
		if errors.Is(err, airflow.ErrConflict) {
			// Another processor wrote it: take up where that one left off.
			p.cacheRead, p.loaded = false, false
		}
		return err
	}
	p.saved, p.contents.dirty = true, false
	return nil
}

func (s *syncing) summary(start time.Time) Summary {
	p := s.p
	sum := Summary{Parsed: s.parsed, Dags: len(p.owner), ImportErrors: len(p.errs), Duration: p.cfg.Now().Sub(start)}
	if s.out != nil {
		sum.Files = len(s.out.files)
	}
	sum.Changed = slices.Sorted(keysOf(s.changed))
	sum.Stale = slices.Sorted(keysOf(s.stale))
	return sum
}

// vanished handles files that are gone: their DAGs become stale, after a while.
func (s *syncing) vanished() {
	p := s.p
	have := make(map[string]bool, len(s.out.files))
	for _, f := range s.out.files {
		have[f] = true
	}
	lost := map[string]bool{}
	for f := range p.files {
		lost[f] = true
	}
	for f := range p.byFile {
		lost[f] = true
	}
	for f := range p.errs {
		lost[f] = true
	}
	delete(lost, folderName)
	var due []string
	now := p.cfg.Now()
	for f := range lost {
		if have[f] || s.out.hidden(f) {
			delete(lost, f)
			continue
		}
		if p.gone[f].IsZero() {
			p.gone[f], p.saved = now, false
		}
		if at := p.gone[f].Add(p.cfg.StaleThreshold); at.After(now) && len(p.byFile[f]) > 0 {
			s.lookAgainAt(at)
			continue
		}
		due = append(due, f)
	}
	for f := range p.gone {
		if !lost[f] {
			delete(p.gone, f)
			p.saved = false
		}
	}
	sort.Strings(due)
	var ids []airflow.DagID
	for _, f := range due {
		ids = append(ids, p.ownedBy(f)...)
		if st := p.files[f]; st != nil {
			for _, d := range st.Dags { // also those that a scan before a crash made stale
				p.untold[d.DagID] = true
			}
		}
	}
	failed := s.markStale(ids)
	for _, f := range due {
		if slices.ContainsFunc(p.ownedBy(f), func(id airflow.DagID) bool { return failed[id] }) {
			continue
		}
		if err := s.setImportError(f, nil, nil); err != nil {
			s.fail(err)
			continue
		}
		p.clearConflicts(f)
		delete(p.files, f)
		delete(p.gone, f)
		p.saved = false
	}
}

// relevant returns the keys of the files beside DAG files that decide what is
// registered, or nil if they are not asked for.
func (p *Processor) relevant(asked bool) map[string]bool {
	if !asked {
		return nil
	}
	keys := map[string]bool{}
	for f, st := range p.files {
		for _, d := range st.Deps {
			if d.Path != f {
				keys[d.Path] = true
			}
		}
	}
	return keys
}
