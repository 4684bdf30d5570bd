package dagparser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/blob"
	"github.com/gustflow/gust/internal/bundle"
	"github.com/gustflow/gust/internal/dagbucket"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/dagprocessor/yamlloader"
	"github.com/gustflow/gust/internal/dagspec"
)

// Invoker calls the parser and waits for its answer. An error that is a *Crash says
// that the parser died of the request; others, that it could not be asked.
type Invoker interface {
	Invoke(ctx context.Context, payload []byte) ([]byte, error)
}

// Crash says that the parser died of a request or refused it.
type Crash struct {
	Type    string // such as Runtime.ExitError or Sandbox.Timedout
	Message string
}

// Error implements error.
func (c *Crash) Error() string {
	return strings.TrimSuffix("the parser failed: "+c.Type+": "+c.Message, ": ")
}

// ClientConfig says whom to ask and how. Invoker, Folder, Bucket and Version are
// required; other zero values are good defaults.
type ClientConfig struct {
	Invoker Invoker
	Folder  *dagbucket.Folder
	Bucket  string // its name
	Version string // of this program; the parser must have the same
	Config  dagspec.Config
	// Env are the environment variables that DAG files may use.
	Env map[string]string
	// Variable reads an Airflow variable; nil = there are none.
	Variable func(key string) (string, bool)
	Scan     dagprocessor.ScanOptions
	// Timeout bounds the loading of one file; default 30 s.
	Timeout time.Duration
	// Batch is the most files of a request, default 32; Parallelism the most requests
	// at once, default 4.
	Batch, Parallelism int
}

// Client is a dagprocessor.BatchLoader that asks a parser.
type Client struct {
	cfg   ClientConfig
	local *yamlloader.Loader
}

var _ dagprocessor.BatchLoader = (*Client)(nil)

// NewClient returns a client.
func NewClient(c ClientConfig) *Client {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	def(&c.Batch, 32)
	def(&c.Parallelism, 4)
	if c.Timeout == 0 {
		c.Timeout = 30 * time.Second
	}
	if c.Variable == nil {
		c.Variable = func(string) (string, bool) { return "", false }
	}
	l := &Client{cfg: c}
	l.local = yamlloader.New(yamlloader.Config{Version: c.Version, Source: inputs{l}, Options: dagspec.Options{Config: c.Config}})
	return l
}

// inputs gives the values that Inputs digests: those that requests are given.
type inputs struct{ c *Client }

func (inputs) ReadFile(string) ([]byte, error)      { return nil, errors.ErrUnsupported }
func (inputs) IsDir(string) bool                    { return false }
func (i inputs) Variable(key string) (string, bool) { return i.c.cfg.Variable(key) }
func (i inputs) LookupEnv(name string) (string, bool) {
	v, ok := i.c.cfg.Env[name]
	return v, ok
}

// Fingerprint implements dagprocessor.Loader.
func (c *Client) Fingerprint() string { return "parser:" + c.local.Fingerprint() }

// Inputs implements dagprocessor.Loader.
func (c *Client) Inputs(ctx context.Context, names []string) (string, error) {
	return c.local.Inputs(ctx, names)
}

// Load implements dagprocessor.Loader.
func (c *Client) Load(ctx context.Context, f dagprocessor.LoadRequest) dagprocessor.LoadResult {
	return c.LoadAll(ctx, []dagprocessor.LoadRequest{f})[0]
}

// LoadAll implements dagprocessor.BatchLoader.
func (c *Client) LoadAll(ctx context.Context, fs []dagprocessor.LoadRequest) []dagprocessor.LoadResult {
	out := make([]dagprocessor.LoadResult, len(fs))
	b := &batch{c: c, helpers: c.helpers(), variables: map[string]string{}}
	var wg sync.WaitGroup
	slots := make(chan struct{}, c.cfg.Parallelism)
	for from := 0; from < len(fs); from += c.cfg.Batch {
		to := min(from+c.cfg.Batch, len(fs))
		names := make([]string, 0, to-from)
		for _, f := range fs[from:to] {
			names = append(names, f.Path)
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			for i, r := range b.load(ctx, names) {
				out[from+i] = r
			}
		})
	}
	wg.Wait()
	return out
}

// helpers are the files that any DAG file may use: all that are none themselves.
func (c *Client) helpers() []string {
	var out []string
	for _, name := range c.cfg.Folder.Names() {
		if !c.cfg.Scan.IsDagFile(name) && !strings.HasPrefix(name, ".git/") && path.Base(path.Dir(name)) != "__pycache__" {
			out = append(out, name)
		}
	}
	return out
}

// batch is one LoadAll.
type batch struct {
	c       *Client
	helpers []string

	mu        sync.Mutex
	variables map[string]string // that loads have asked for and that exist
}

const (
	// maxRounds bounds how often a file is loaded again because it looked for
	// something that the request before did not hold.
	maxRounds = 6
	// Bounds on what is believed of an answer.
	maxDAGs         = 10_000
	maxProblems     = 1_000
	maxProblemBytes = 16 << 10
	maxDependencies = 20_000
	maxInputs       = 1_000
	minValid        = time.Minute
)

// load returns the results of files, in order.
func (b *batch) load(ctx context.Context, names []string) []dagprocessor.LoadResult {
	done := map[string]dagprocessor.LoadResult{}
	extra := map[string]bool{} // DAG files that others look at
	todo := names
	for round := 1; len(todo) > 0; round++ {
		results := b.ask(ctx, todo, extra)
		var again []string
		for i, name := range todo {
			r := results[i]
			missing, vars := b.unknown(r, extra, todo)
			if r.Err != nil || round == maxRounds || len(missing)+len(vars) == 0 {
				done[name] = r
				continue
			}
			for _, m := range missing {
				extra[m] = true
			}
			b.mu.Lock()
			for k, v := range vars {
				b.variables[k] = v
			}
			b.mu.Unlock()
			again = append(again, name)
		}
		todo = again
	}
	out := make([]dagprocessor.LoadResult, len(names))
	for i, n := range names {
		out[i] = done[n]
	}
	return out
}

// unknown returns what exists and a load did not find, because the request did not
// hold it.
func (b *batch) unknown(r dagprocessor.LoadResult, extra map[string]bool, asked []string) (missing []string, vars map[string]string) {
	for _, d := range r.Dependencies {
		_, there := b.c.cfg.Folder.Object(d.Path)
		if d.Hash == dagprocessor.Missing && there && !extra[d.Path] && b.c.cfg.Scan.IsDagFile(d.Path) {
			missing = append(missing, d.Path)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	vars = map[string]string{}
	for _, in := range r.Inputs {
		key, ok := strings.CutPrefix(in, "var:")
		if !ok {
			continue
		}
		v, exists := b.c.cfg.Variable(key)
		if have, known := b.variables[key]; exists && (!known || have != v) {
			vars[key] = v
		}
	}
	return missing, vars
}

// ask has files parsed, dividing them when the parser dies or answers in parts.
func (b *batch) ask(ctx context.Context, names []string, extra map[string]bool) []dagprocessor.LoadResult {
	var out []dagprocessor.LoadResult
	for len(names) > 0 {
		part, err := b.request(ctx, names, extra)
		var crash *Crash
		switch {
		case err == nil:
			out = append(out, part...)
			names = names[len(part):]
		case errors.As(err, &crash) && len(names) > 1:
			half := len(names) / 2
			out = append(out, b.ask(ctx, names[:half], extra)...)
			names = names[half:]
		case errors.As(err, &crash) && !b.alive(ctx):
			return append(out, dagprocessor.LoadResult{Err: fmt.Errorf("the parser fails whatever it is asked: %w: %w", err, airflow.ErrUnavailable)})
		case errors.As(err, &crash):
			return append(out, dagprocessor.LoadResult{Problems: []airflow.Problem{{Class: "AirflowException",
				Message: fmt.Sprintf("the file could not be loaded: the parser ended while it loaded it (%s: %s); a file that needs more memory or time must be split", crash.Type, clip(crash.Message))}}})
		default:
			for range names {
				out = append(out, dagprocessor.LoadResult{Err: err})
			}
			return out
		}
	}
	return out
}

// alive asks the parser for nothing: one that dies even of that is broken, and the
// file is not to blame.
func (b *batch) alive(ctx context.Context) bool {
	payload, err := Pack(Request{Version: b.c.cfg.Version, Bucket: b.c.cfg.Bucket, Prefix: b.c.cfg.Folder.Prefix()})
	if err == nil {
		_, err = b.c.cfg.Invoker.Invoke(ctx, payload)
	}
	return err == nil
}

// request asks once and returns the results of the first names, at least one.
func (b *batch) request(ctx context.Context, names []string, extra map[string]bool) ([]dagprocessor.LoadResult, error) {
	req := Request{
		Version: b.c.cfg.Version, Bucket: b.c.cfg.Bucket, Prefix: b.c.cfg.Folder.Prefix(), Parse: names,
		Env: b.c.cfg.Env, Config: b.c.cfg.Config, TimeoutMS: b.c.cfg.Timeout.Milliseconds(), Variables: map[string]string{},
	}
	b.mu.Lock()
	for k, v := range b.variables {
		req.Variables[k] = v
	}
	b.mu.Unlock()
	listed := map[string]bool{}
	add := func(name string) {
		if o, ok := b.c.cfg.Folder.Object(name); ok && !listed[name] {
			listed[name] = true
			req.Manifest = append(req.Manifest, File{name, o.VersionID, o.ETag, o.Size})
		}
	}
	for _, n := range b.helpers {
		add(n)
	}
	for n := range extra {
		add(n)
	}
	for _, n := range names {
		if add(n); !listed[n] {
			return nil, dagprocessor.ErrChanging
		}
	}
	payload, err := Pack(req)
	if errors.Is(err, airflow.ErrTooLarge) {
		return nil, &Crash{Type: "RequestTooLarge", Message: fmt.Sprintf("the folder has %d files beside DAG files, too many to be named in one request: keep data files elsewhere", len(b.helpers))}
	}
	if err != nil {
		return nil, err
	}
	answer, err := b.c.cfg.Invoker.Invoke(ctx, payload)
	if err != nil {
		return nil, err
	}
	var res Response
	if err := Unpack(answer, &res); err != nil {
		return nil, &Crash{Type: "BadAnswer", Message: err.Error()}
	}
	if res.Version != b.c.cfg.Version {
		return nil, fmt.Errorf("the parser has version %q and the DAG processor %q: %w until both are deployed", res.Version, b.c.cfg.Version, airflow.ErrUnavailable)
	}
	if len(res.Results) == 0 || len(res.Results) > len(names) {
		return nil, &Crash{Type: "BadAnswer", Message: fmt.Sprintf("%d results for %d files", len(res.Results), len(names))}
	}
	out := make([]dagprocessor.LoadResult, len(res.Results))
	for i, r := range res.Results {
		if r.Path != names[i] {
			return nil, &Crash{Type: "BadAnswer", Message: fmt.Sprintf("a result of %q where %q was asked for", clip(r.Path), names[i])}
		}
		out[i] = b.c.believe(r)
	}
	return out, nil
}

// believe takes over a result as far as it can be true. Documents are checked and
// hashed by the DAG processor like those of any loader.
func (c *Client) believe(r Result) dagprocessor.LoadResult {
	switch {
	case r.Changed:
		return dagprocessor.LoadResult{Err: dagprocessor.ErrChanging}
	case r.Failure != "":
		return dagprocessor.LoadResult{Err: fmt.Errorf("the parser could not read the files: %s: %w", clip(r.Failure), airflow.ErrUnavailable)}
	}
	out := dagprocessor.LoadResult{Warnings: problems(r.Warnings), Problems: problems(r.Problems), ValidUntil: r.ValidUntil}
	if soonest := time.Now().Add(minValid); !r.ValidUntil.IsZero() && r.ValidUntil.Before(soonest) {
		out.ValidUntil = soonest
	}
	for i, d := range r.DAGs {
		if i == maxDAGs {
			out.Problems = append(out.Problems, airflow.Problem{Message: fmt.Sprintf("the file defines %d DAGs: only the first %d are loaded; split it", len(r.DAGs), maxDAGs)})
			break
		}
		if !json.Valid(d.Document) {
			out.Problems = append(out.Problems, airflow.Problem{Field: clip(d.DagID), Message: "the parser gave no document for the DAG"})
			continue
		}
		out.DAGs = append(out.DAGs, dagprocessor.LoadedDAG{DagID: airflow.DagID(d.DagID), Document: d.Document})
	}
	for _, d := range r.Dependencies {
		// Files outside of the folder are those of the parser's machine.
		if len(out.Dependencies) < maxDependencies && bundle.CheckPath(d.Path) == nil && (d.Hash == dagprocessor.Missing || blob.CheckHash(d.Hash) == nil) {
			out.Dependencies = append(out.Dependencies, dagprocessor.Dependency{Path: d.Path, Hash: d.Hash})
		}
	}
	for _, in := range r.Inputs {
		if len(out.Inputs) < maxInputs && len(in) <= 512 && (strings.HasPrefix(in, "env:") || strings.HasPrefix(in, "var:")) {
			out.Inputs = append(out.Inputs, in)
		}
	}
	return out
}

func problems(ps []airflow.Problem) []airflow.Problem {
	out := ps[:min(len(ps), maxProblems)]
	for i := range out {
		p := &out[i]
		p.Message, p.Field, p.Class, p.File = clip(p.Message), clip(p.Field), clip(p.Class), clip(p.File)
		if p.Severity != "" && p.Severity != "warning" {
			p.Severity = "error"
		}
	}
	return out
}

func clip(s string) string {
	if len(s) > maxProblemBytes {
		return strings.ToValidUTF8(s[:maxProblemBytes], "") + "…"
	}
	return s
}
