package dagprocessor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"path"
	"runtime/debug"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/blob"
	"github.com/gustflow/gust/internal/bundle"
	"github.com/gustflow/gust/internal/timetable"
)

// parsedFile is a DAG file after parsing, before registration.
type parsedFile struct {
	path     string
	dags     []parsedDag // by order in the file
	problems []airflow.Problem
	warnings []airflow.Problem
	state    *fileState
	// changing says that the file changed while it was read: it is read again;
	// relist, that the folder must be looked at anew for that.
	changing, relist bool
	// err is a failure that is not the file's.
	err error
}

// parsedDag is one DAG of a file, ready to be registered.
type parsedDag struct {
	dag         *airflow.DAG
	canonical   []byte
	hash        string
	bundle      string
	summary     string // of the timetable
	description string // of the timetable
}

func (f *parsedFile) problem(format string, args ...any) {
	f.problems = append(f.problems, airflow.Problem{File: f.path, Message: fmt.Sprintf(format, args...), Severity: "error"})
}

// invalid adds the problems of an InvalidError; another error is one problem.
func (f *parsedFile) invalid(field string, err error) {
	var inv *airflow.InvalidError
	if !errors.As(err, &inv) {
		p := airflow.Problem{File: f.path, Field: field, Message: err.Error(), Severity: "error"}
		var te *timetable.Error
		if errors.As(err, &te) {
			p.Class = te.Class
		}
		f.problems = append(f.problems, p)
		return
	}
	for _, p := range inv.Problems {
		if p.File != "" && p.File != f.path {
			p.Message = p.File + ": " + p.Message
		}
		p.File = f.path
		if p.Field == "" {
			p.Field = field
		} else if field != "" {
			p.Field = field + "." + p.Field
		}
		if p.Severity == "" {
			p.Severity = "error"
		}
		f.problems = append(f.problems, p)
	}
}

// parser reads and checks DAG files; it does not know the Store.
type parser struct {
	src     Source
	loader  Loader
	opts    ScanOptions
	timeout time.Duration
	now     func() time.Time
	log     func(msg string, args ...any)
	warn    func(*airflow.DAG) []airflow.Problem // may be nil
}

// parse loads one file and checks its DAGs.
func (p *parser) parse(ctx context.Context, file string) *parsedFile {
	start := p.now()
	f, req := p.open(ctx, file)
	if req != nil {
		p.finish(ctx, f, p.load(ctx, *req))
		f.state.Duration = p.now().Sub(start)
	}
	return f
}

// parseAll loads files, at most limit at once, or all together if the loader
// takes them so.
func (p *parser) parseAll(ctx context.Context, files []string, limit int) []*parsedFile {
	out := make([]*parsedFile, len(files))
	batch, ok := p.loader.(BatchLoader)
	if !ok {
		forEach(len(files), limit, func(i int) { out[i] = p.parse(ctx, files[i]) })
		return out
	}
	start := p.now()
	opened := make([]*LoadRequest, len(files))
	forEach(len(files), storeParallelism, func(i int) { out[i], opened[i] = p.open(ctx, files[i]) })
	var reqs []LoadRequest
	var of []*parsedFile
	for i, r := range opened {
		if r != nil {
			reqs, of = append(reqs, *r), append(of, out[i])
		}
	}
	if len(reqs) == 0 {
		return out
	}
	for i, res := range batch.LoadAll(ctx, reqs) {
		p.finish(ctx, of[i], res)
		of[i].state.Duration = p.now().Sub(start) / time.Duration(len(reqs))
	}
	return out
}

// open reads a file; without a request there is nothing to load.
func (p *parser) open(ctx context.Context, file string) (*parsedFile, *LoadRequest) {
	f := &parsedFile{path: file, state: &fileState{}}
	content, size, err := p.read(ctx, file)
	switch {
	case errors.Is(err, ErrChanging):
		f.changing, f.relist = true, true
		return f, nil
	case elsewhere(err):
		f.err = err
		return f, nil
	case err != nil:
		f.problem("%v", err)
		f.state.Deps = []Dependency{{Path: file, Hash: unreadable}}
		return f, nil
	case size > p.opts.MaxFileBytes:
		f.problem("the file has %d bytes, more than %d: split it, or raise the limit", size, p.opts.MaxFileBytes)
		f.state.Deps = []Dependency{{Path: file, Hash: tooLarge(size)}}
		return f, nil
	}
	f.state.Deps = []Dependency{{Path: file, Hash: blob.Hash(content)}}
	return f, &LoadRequest{Root: p.src.Root(), Path: file, Content: content}
}

// elsewhere reports whether an error is not the file's: storage that does not
// answer now.
func elsewhere(err error) bool {
	return errors.Is(err, airflow.ErrUnavailable) || errors.Is(err, airflow.ErrThrottled) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// finish takes over what a load found.
func (p *parser) finish(ctx context.Context, f *parsedFile, res LoadResult) {
	if errors.Is(res.Err, ErrChanging) {
		f.changing, f.relist = true, true
		return
	}
	if res.Err != nil {
		f.err = res.Err
		return
	}
	file := f.path
	f.problems = append(f.problems, located(file, res.Problems, "error")...)
	f.warnings = located(file, res.Warnings, "warning")
	f.state.Inputs, f.state.ValidUntil = res.Inputs, res.ValidUntil
	f.depend(res.Dependencies...)
	if len(res.Inputs) > 0 {
		// Taken after loading: a value that changed meanwhile shows at the next scan
		// or not at all; the loader is asked for the same names again then.
		var err error
		if f.state.InputDigest, err = p.loader.Inputs(ctx, res.Inputs); err != nil {
			f.err = err
		}
	}
	seen := map[airflow.DagID]bool{}
	for _, d := range res.DAGs {
		if seen[d.DagID] {
			f.problem("DAG %q is defined twice in the file: only the first is loaded; give the other one another dag_id", d.DagID)
			continue
		}
		seen[d.DagID] = true
		p.check(f, d)
	}
}

// unreadable stands for the hash of a content that could not be read. No content
// has it, so the file is tried again whenever it is looked at.
const unreadable = "unreadable"

// tooLarge stands for the hash of a DAG file that is not read because of its size.
func tooLarge(size int64) string { return fmt.Sprintf("%d bytes", size) }

func (p *parser) read(ctx context.Context, path string) (content []byte, size int64, err error) {
	fi, err := p.src.Stat(path)
	if err == nil && fi.Size() > p.opts.MaxFileBytes {
		return nil, fi.Size(), nil
	}
	var r io.ReadCloser
	if err == nil {
		r, err = p.src.Open(ctx, path)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("the file cannot be read: %w", err)
	}
	defer r.Close()
	content, err = io.ReadAll(io.LimitReader(r, p.opts.MaxFileBytes+1))
	if err != nil {
		return nil, 0, fmt.Errorf("the file cannot be read: %w", err)
	}
	return content, int64(len(content)), nil
}

func (p *parser) load(ctx context.Context, req LoadRequest) LoadResult {
	return LoadBounded(ctx, p.loader, req, p.timeout, p.log)
}

// LoadBounded calls a loader, bounded in time and safe from its panics. A load that
// does not heed its context goes on unheard.
func LoadBounded(ctx context.Context, l Loader, req LoadRequest, timeout time.Duration, log func(msg string, args ...any)) LoadResult {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	done := make(chan LoadResult, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				log("the loader failed", "file", req.Path, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
				done <- LoadResult{Problems: []airflow.Problem{{Message: fmt.Sprintf("internal error while loading the file: %v; please report it with the file", r)}}}
			}
		}()
		done <- l.Load(ctx, req)
	}()
	select {
	case r := <-done:
		return r
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return LoadResult{Problems: []airflow.Problem{{Message: fmt.Sprintf("the file could not be loaded within %v ([core] dagbag_import_timeout)", timeout), Class: "AirflowTaskTimeout"}}}
		}
		return LoadResult{Problems: []airflow.Problem{{Message: ctx.Err().Error()}}}
	}
}

// located fills in what a loader may leave out of a problem.
func located(path string, ps []airflow.Problem, severity string) []airflow.Problem {
	out := make([]airflow.Problem, len(ps))
	for i, p := range ps {
		if p.File == "" {
			p.File = path
		}
		if p.Severity == "" {
			p.Severity = severity
		}
		out[i] = p
	}
	return out
}

// depend adds dependencies. Two reads of one path that differ mean that the file
// changed in between.
func (f *parsedFile) depend(deps ...Dependency) {
	for _, d := range deps {
		known := false
		for i, have := range f.state.Deps {
			if have.Path == d.Path {
				known = true
				f.changing = f.changing || have.Hash != d.Hash
				setDefault(&f.state.Deps[i].Mode, have.Mode == "", d.Mode)
			}
		}
		if !known {
			f.state.Deps = append(f.state.Deps, d)
		}
	}
}

// dependOnUnusable makes the file be parsed again when a source file of it that
// is missing or unusable changes.
func (f *parsedFile) dependOnUnusable(src Source, source string) {
	if bundle.CheckPath(source) != nil {
		return // no file will ever be there
	}
	if _, err := src.Stat(source); errors.Is(err, fs.ErrNotExist) {
		f.depend(Dependency{Path: source, Hash: Missing})
		return
	}
	f.depend(Dependency{Path: source, Hash: unreadable})
}

// check canonicalises and validates a DAG.
func (p *parser) check(f *parsedFile, d LoadedDAG) {
	field := string(d.DagID)
	if err := airflow.CheckID("dag_id", field); err != nil {
		f.invalid(field, err)
		return
	}
	canonical, hash, err := airflow.CanonicalDAG(d.Document)
	if err != nil {
		f.invalid(field, err)
		return
	}
	dag, err := airflow.ParseDAG(canonical)
	if err != nil {
		f.invalid(field, err)
		return
	}
	if dag.DagID != d.DagID {
		f.problem("the document of DAG %q says dag_id %q", d.DagID, dag.DagID)
		return
	}
	if dag.RelativeFileloc != "" && dag.RelativeFileloc != f.path {
		f.problem("the document of DAG %q says relative_fileloc %q", d.DagID, dag.RelativeFileloc)
		return
	}
	pd := parsedDag{dag: dag, canonical: canonical, hash: hash}
	if len(dag.Timetable) > 0 {
		tt, err := timetable.Parse(dag.Timetable)
		if err == nil {
			err = tt.Validate(p.now())
		}
		if err != nil {
			f.invalid(field+".schedule", err)
			return
		}
		pd.summary, pd.description = tt.Summary(), tt.Description()
	}
	f.dags = append(f.dags, pd)
	f.warnOutside(dag)
	if p.warn != nil {
		f.warnings = append(f.warnings, located(f.path, p.warn(dag), "warning")...)
	}
}

// sources returns the files of a DAG's bundle snapshot. Files outside of the DAG
// folder cannot be part of it.
func (f *parsedFile) sources(d *airflow.DAG) []string {
	out := []string{f.path}
	for _, s := range d.Gust.SourceFiles {
		if s != f.path && !path.IsAbs(s) {
			out = append(out, s)
		}
	}
	return out
}

// warnOutside warns of files that a DAG uses and no snapshot holds.
func (f *parsedFile) warnOutside(d *airflow.DAG) {
	for _, s := range d.Gust.SourceFiles {
		if path.IsAbs(s) {
			f.warnings = append(f.warnings, airflow.Problem{File: f.path, Field: string(d.DagID), Severity: "warning",
				Message: fmt.Sprintf("%s lies outside of the DAG folder: runs use it as it is when their tasks start, not as it was when they were created; move it into the DAG folder to pin it", s)})
		}
	}
}

// snapshot makes the bundle snapshots of a file's DAGs and stores their
// documents. A DAG whose files are unusable does not load.
func (p *Processor) snapshot(ctx context.Context, f *parsedFile) {
	good := f.dags[:0]
	for _, d := range f.dags {
		hash, m, err := p.cfg.Bundles.SnapshotOf(ctx, p.cfg.Source, f.sources(d.dag), bundle.SnapshotOptions{})
		var inv *airflow.InvalidError
		if errors.As(err, &inv) {
			f.invalid(string(d.dag.DagID), err)
			for _, pr := range inv.Problems {
				f.dependOnUnusable(p.cfg.Source, pr.File)
			}
			continue
		}
		if err == nil {
			err = p.putDocument(ctx, d.dag.DagID, d.hash, d.canonical)
		}
		if errors.Is(err, ErrChanging) {
			f.changing, f.relist = true, true
			return
		}
		if err != nil {
			f.err = err
			return
		}
		for _, file := range m.Files {
			f.depend(Dependency{Path: file.Path, Hash: file.SHA256, Mode: file.Mode})
		}
		d.bundle = hash
		good = append(good, d)
	}
	f.dags = good
}

// forEach calls f for 0 … n-1, at most limit at once, and waits for all.
func forEach(n, limit int, f func(i int)) {
	if n <= 1 || limit <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(n, limit) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range next {
				f(i)
			}
		}()
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

func keysOf[K comparable, V any](m map[K]V) iter.Seq[K] { return maps.Keys(m) }

// putDocument stores a DAG's document, unless it is that of the registered
// version: the version keeps it from being collected.
func (p *Processor) putDocument(ctx context.Context, id airflow.DagID, hash string, doc []byte) error {
	m, err := p.cfg.Store.GetDag(ctx, id)
	if err == nil && m.LatestHash == hash {
		return nil
	}
	if err != nil && !errors.Is(err, airflow.ErrNotFound) {
		return err
	}
	return p.cfg.Store.PutDocument(ctx, hash, doc)
}
