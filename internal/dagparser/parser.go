package dagparser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/dagbucket"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/dagprocessor/yamlloader"
	"github.com/gustflow/gust/internal/dagspec"
)

// ParserOptions configure a Parser. Open and Version are required.
type ParserOptions struct {
	// Open returns the bucket of that name.
	Open    func(name string) dagbucket.Bucket
	Version string // of the program
	// Dir is where files are kept between requests; its content is the parser's.
	// Documents name it in fileloc. Default <temporary folder>/gust/dags.
	Dir string
	// Python inspects Python files; "" is python3 of PATH, "-" none.
	Python string
	// MaxCallBytes bounds the files that are fetched before a function of a DAG file
	// is called; default 256 MiB.
	MaxCallBytes int64
	// MaxAnswerBytes bounds an encoded answer; default MaxMessageBytes.
	MaxAnswerBytes int
	// Reserve is the time that must be left to start another file when one is done
	// already; default the file's own limit.
	Reserve time.Duration
	Log     *slog.Logger // default discards
}

// Parser loads DAG files of a bucket. Requests are carried out one after the other.
type Parser struct {
	o ParserOptions

	py     *dagspec.Interpreter
	mu     sync.Mutex // held by a request
	source string     // bucket and prefix of what lies in Dir

	// dirMu guards what follows, also against loads that a request gave up.
	dirMu sync.Mutex
	have  map[string]string // version by name of the files in Dir
	// called says that code of a DAG file has run beside the files: they are fetched
	// again.
	called  bool
	fetched bool // something that Python may have looked at has changed
}

// NewParser returns a parser. Close ends its Python.
func NewParser(o ParserOptions) *Parser {
	if o.Dir == "" {
		o.Dir = filepath.Join(os.TempDir(), "gust", "dags")
	}
	if o.MaxCallBytes == 0 {
		o.MaxCallBytes = 256 << 20
	}
	if o.MaxAnswerBytes == 0 {
		o.MaxAnswerBytes = MaxMessageBytes
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	p := &Parser{o: o, have: map[string]string{}}
	if o.Python != "-" {
		p.py = dagspec.NewInterpreter(o.Dir, filepath.Join(o.Dir, "plugins"), filepath.Join(o.Dir, "include"))
		p.py.Path = o.Python
	}
	return p
}

// Close ends the child processes.
func (p *Parser) Close() error {
	if p.py == nil {
		return nil
	}
	return p.py.Close()
}

// Handle carries out an encoded request: the function's handler.
func (p *Parser) Handle(ctx context.Context, body []byte) ([]byte, error) {
	var req Request
	if err := Unpack(body, &req); err != nil {
		return nil, fmt.Errorf("parse request: %w", err)
	}
	res, err := p.Parse(ctx, &req)
	if err != nil {
		return nil, err
	}
	for {
		b, err := pack(res, p.o.MaxAnswerBytes)
		n := len(res.Results)
		switch {
		case err == nil:
			return b, nil
		case !errors.Is(err, airflow.ErrTooLarge):
			return nil, err
		case n > 1:
			res.Results = res.Results[:n/2]
		default:
			res.Results[0] = Result{Path: res.Results[0].Path, Problems: []airflow.Problem{{
				Message: fmt.Sprintf("the DAGs of the file are too big to be handed over (at most %d bytes compressed): split the file", p.o.MaxAnswerBytes)}}}
		}
	}
}

// Parse loads the files of a request, or the first of them.
func (p *Parser) Parse(ctx context.Context, req *Request) (*Response, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := &Response{Version: p.o.Version}
	if req.Version != p.o.Version {
		return out, nil // no results: the asker sees why
	}
	m, err := p.prepare(req)
	if err != nil {
		return nil, err
	}
	timeout := time.Duration(req.TimeoutMS) * time.Millisecond
	if timeout <= 0 {
		timeout = 30 * time.Second
	}
	reserve := p.o.Reserve
	if reserve == 0 {
		reserve = timeout + 5*time.Second
	}
	group := max(1, runtime.GOMAXPROCS(0))
	size := 0
	for from := 0; from < len(req.Parse) && size < MaxUnpackedBytes/2; from += group {
		if end, ok := ctx.Deadline(); ok && from > 0 && time.Until(end) < reserve {
			break
		}
		names := req.Parse[from:min(from+group, len(req.Parse))]
		results := make([]Result, len(names))
		var wg sync.WaitGroup
		for i, name := range names {
			wg.Go(func() { results[i] = m.load(ctx, req, name, timeout) })
		}
		wg.Wait()
		for _, r := range results {
			for _, d := range r.DAGs {
				size += len(d.Document)
			}
		}
		out.Results = append(out.Results, results...)
	}
	return out, nil
}

// mirror is the manifest of one request and the folder it is fetched into.
type mirror struct {
	p      *Parser
	bucket dagbucket.Bucket
	prefix string
	files  map[string]File
	dirs   map[string]bool

	mu       sync.Mutex
	fetching map[string]*sync.Mutex
}

// prepare removes from the folder what is not of the manifest.
func (p *Parser) prepare(req *Request) (*mirror, error) {
	m := &mirror{p: p, bucket: p.o.Open(req.Bucket), prefix: req.Prefix, files: map[string]File{}, dirs: map[string]bool{".": true}, fetching: map[string]*sync.Mutex{}}
	for _, f := range req.Manifest {
		if !filepath.IsLocal(filepath.FromSlash(f.Name)) || filepath.ToSlash(filepath.Clean(f.Name)) != f.Name {
			return nil, fmt.Errorf("the manifest names %q: expected a clean relative path", f.Name)
		}
		m.files[f.Name] = f
		for d := filepath.Dir(f.Name); !m.dirs[d]; d = filepath.Dir(d) {
			m.dirs[d] = true
		}
	}
	for _, name := range req.Parse {
		if _, ok := m.files[name]; !ok {
			return nil, fmt.Errorf("the manifest lacks %q, which is to be parsed", name)
		}
	}
	p.dirMu.Lock()
	defer p.dirMu.Unlock()
	source := req.Bucket + "/" + req.Prefix
	if p.called || p.source != source {
		if err := os.RemoveAll(p.o.Dir); err != nil {
			return nil, err
		}
		p.called, p.source, p.have = false, source, map[string]string{}
		p.fetched = true
	}
	for name, version := range p.have {
		if f, ok := m.files[name]; ok && f.Object("").Version() == version {
			continue
		}
		if err := os.Remove(m.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		delete(p.have, name)
		p.fetched = true
	}
	return m, os.MkdirAll(p.o.Dir, 0o700)
}

func (m *mirror) path(name string) string {
	return filepath.Join(m.p.o.Dir, filepath.FromSlash(name))
}

// fetch makes sure that a file of the manifest lies in the folder.
func (m *mirror) fetch(ctx context.Context, name string) error {
	m.mu.Lock()
	one := m.fetching[name]
	if one == nil {
		one = &sync.Mutex{}
		m.fetching[name] = one
	}
	m.mu.Unlock()
	one.Lock()
	defer one.Unlock()
	f := m.files[name]
	o := f.Object(m.prefix)
	m.p.dirMu.Lock()
	have := m.p.have[name]
	m.p.dirMu.Unlock()
	if err := ctx.Err(); err != nil || have == o.Version() {
		return err
	}
	r, err := m.bucket.Get(ctx, o)
	if err != nil {
		return err
	}
	defer r.Close()
	to := m.path(name)
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	// A name of its own until it is whole: Python may look at any time.
	w, err := os.CreateTemp(filepath.Dir(to), ".gust-fetch-*")
	if err != nil {
		return err
	}
	_, err = io.Copy(w, io.LimitReader(r, max(o.Size, 0)+1))
	if err = errors.Join(err, w.Close()); err == nil {
		err = os.Rename(w.Name(), to)
	}
	if err != nil {
		_ = os.Remove(w.Name())
		return err
	}
	m.p.dirMu.Lock()
	defer m.p.dirMu.Unlock()
	m.p.have[name] = o.Version()
	m.p.fetched = true
	return nil
}

// fetchAll fetches the files that want selects.
func (m *mirror) fetchAll(ctx context.Context, want func(File) bool) error {
	var names []string
	for name, f := range m.files {
		if want(f) {
			names = append(names, name)
		}
	}
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	slots := make(chan struct{}, 16)
	for i, name := range names {
		slots <- struct{}{}
		wg.Go(func() {
			errs[i] = m.fetch(ctx, name)
			<-slots
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// forget makes the inspector look again if files have changed since it did.
func (m *mirror) forget() {
	m.p.dirMu.Lock()
	defer m.p.dirMu.Unlock()
	if m.p.fetched {
		m.p.py.Forget()
		m.p.fetched = false
	}
}

// load loads one file.
func (m *mirror) load(ctx context.Context, req *Request, name string, timeout time.Duration) Result {
	v := &view{mirror: m, ctx: ctx, req: req}
	content, err := v.ReadFile(filepath.ToSlash(m.path(name)))
	if err != nil {
		return v.failed(name, err)
	}
	var py dagspec.Python
	if m.p.py != nil {
		py = inspector{v}
	}
	l := yamlloader.New(yamlloader.Config{Version: m.p.o.Version, Source: v, Options: dagspec.Options{Python: py, Config: req.Config}})
	r := dagprocessor.LoadBounded(ctx, l, dagprocessor.LoadRequest{Root: m.p.o.Dir, Path: name, Content: content}, timeout, m.p.o.Log.Error)
	if err := v.err(); err != nil {
		return v.failed(name, err)
	}
	out := Result{Path: name, Warnings: r.Warnings, Problems: r.Problems, Dependencies: r.Dependencies, Inputs: r.Inputs, ValidUntil: r.ValidUntil}
	for _, d := range r.DAGs {
		out.DAGs = append(out.DAGs, Document{string(d.DagID), d.Document})
	}
	return out
}

// view is what the loading of one file may look at: the manifest's files and what
// the request says, nothing of this machine.
type view struct {
	*mirror
	ctx context.Context
	req *Request

	failMu  sync.Mutex
	failure error
}

var _ dagspec.Source = (*view)(nil)

func (v *view) note(err error) error {
	v.failMu.Lock()
	defer v.failMu.Unlock()
	if v.failure == nil {
		v.failure = err
	}
	return err
}

func (v *view) err() error {
	v.failMu.Lock()
	defer v.failMu.Unlock()
	return v.failure
}

func (v *view) failed(name string, err error) Result {
	if errors.Is(err, dagprocessor.ErrChanging) {
		return Result{Path: name, Changed: true}
	}
	return Result{Path: name, Failure: err.Error()}
}

// name returns the name of a path below the folder.
func (v *view) name(p string) (string, bool) {
	rel, err := filepath.Rel(v.p.o.Dir, filepath.FromSlash(p))
	return filepath.ToSlash(rel), err == nil && filepath.IsLocal(rel)
}

// ReadFile implements dagspec.Source.
func (v *view) ReadFile(p string) ([]byte, error) {
	name, ok := v.name(p)
	if _, listed := v.files[name]; !ok || !listed {
		return nil, &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
	}
	if err := v.fetch(v.ctx, name); err != nil {
		return nil, v.note(fmt.Errorf("%s: %w", name, err))
	}
	return os.ReadFile(v.path(name))
}

// IsDir implements dagspec.Source.
func (v *view) IsDir(p string) bool {
	name, ok := v.name(p)
	return ok && v.dirs[filepath.FromSlash(name)]
}

// Exists tells the loader whether there is anything at a path.
func (v *view) Exists(p string) bool {
	name, ok := v.name(p)
	_, listed := v.files[name]
	return ok && (listed || v.dirs[filepath.FromSlash(name)])
}

// LookupEnv implements dagspec.Source.
func (v *view) LookupEnv(name string) (string, bool) {
	if name == "DAGS_FOLDER" || name == "AIRFLOW__CORE__DAGS_FOLDER" {
		return v.p.o.Dir, true
	}
	s, ok := v.req.Env[name]
	return s, ok
}

// Variable implements dagspec.Source.
func (v *view) Variable(key string) (string, bool) {
	s, ok := v.req.Variables[key]
	return s, ok
}

// inspector fetches files before Python looks at them.
type inspector struct{ *view }

func (i inspector) sources() error {
	if err := i.fetchAll(i.ctx, func(f File) bool { return filepath.Ext(f.Name) == ".py" }); err != nil {
		return i.note(err)
	}
	i.forget()
	return nil
}

// Module implements dagspec.Python.
func (i inspector) Module(name string) (*dagspec.PyModule, error) {
	if err := i.sources(); err != nil {
		return nil, err
	}
	return i.p.py.Module(name)
}

// File implements dagspec.Python.
func (i inspector) File(path string) (*dagspec.PyModule, error) {
	if err := i.sources(); err != nil {
		return nil, err
	}
	return i.p.py.File(path)
}

// Call implements dagspec.Python. The function may read any file beside it.
func (i inspector) Call(c dagspec.PyCall) (dagspec.PyResult, error) {
	size := int64(0)
	for _, f := range i.files {
		size += f.Size
	}
	small := size <= i.p.o.MaxCallBytes
	if err := i.fetchAll(i.ctx, func(f File) bool { return small || filepath.Ext(f.Name) == ".py" }); err != nil {
		return dagspec.PyResult{}, i.note(err)
	}
	i.p.dirMu.Lock()
	i.p.called = true
	i.p.dirMu.Unlock()
	return i.p.py.Call(c)
}
