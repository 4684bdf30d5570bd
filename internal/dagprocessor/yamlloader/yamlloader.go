// Package yamlloader lets the DAG processor read YAML DAG files: package dagspec
// does the reading, this package notes what it looked at.
package yamlloader

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/blob"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/dagspec"
)

// Config says how to load. The zero value is Airflow's configuration.
type Config struct {
	// Version is the program's: another one parses every file again.
	Version string
	// Options of dagspec; BundleRoot and Now are set per load.
	Options dagspec.Options
	// Source gives environment variables and Airflow variables, and files;
	// default dagspec.Dir.
	Source dagspec.Source
	// Now is the clock for relative dates; default time.Now.
	Now func() time.Time
}

// Loader is a dagprocessor.Loader of YAML DAG files.
type Loader struct{ cfg Config }

var _ dagprocessor.Loader = (*Loader)(nil)

// New returns a loader.
func New(c Config) *Loader {
	if c.Source == nil {
		c.Source = dagspec.Dir{}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Loader{c}
}

// loaderFormat changes when this package or dagspec produces other documents
// from the same files within one version of the program.
const loaderFormat = 1

// Fingerprint implements dagprocessor.Loader.
func (l *Loader) Fingerprint() string {
	o := l.cfg.Options
	b, err := json.Marshal(map[string]any{
		"format": loaderFormat, "version": l.cfg.Version, "defaults_root": o.DefaultsRoot, "strict": o.Strict,
		"limits": o.Limits, "config": o.Config, "python": o.Python != nil,
	})
	if err != nil {
		return l.cfg.Version // plain values: they can be encoded
	}
	return blob.Hash(b)
}

// Prefixes of the names of inputs.
const (
	inputEnv      = "env:"
	inputVariable = "var:"
)

// Inputs implements dagprocessor.Loader.
func (l *Loader) Inputs(_ context.Context, names []string) (string, error) {
	h := sha256.New()
	for _, n := range names {
		var v string
		var set bool
		if key, ok := strings.CutPrefix(n, inputEnv); ok {
			v, set = l.cfg.Source.LookupEnv(key)
		} else if key, ok := strings.CutPrefix(n, inputVariable); ok {
			v, set = l.cfg.Source.Variable(key)
		}
		fmt.Fprintf(h, "%q %v %q\n", n, set, v)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// relativeDate finds texts that dagspec may read relative to the present day.
var relativeDate = regexp.MustCompile(`(?i)\d\s+(?:hour|minute|second|day)`)

// dayGrain divides every time zone's midnight: offsets are multiples of it.
const dayGrain = 15 * time.Minute

// Load implements dagprocessor.Loader.
func (l *Loader) Load(_ context.Context, f dagprocessor.LoadRequest) dagprocessor.LoadResult {
	root := filepath.ToSlash(f.Root)
	self := filepath.ToSlash(filepath.Join(f.Root, filepath.FromSlash(f.Path)))
	rec := &recorder{Source: l.cfg.Source, self: self, content: f.Content, files: map[string]string{}, inputs: map[string]bool{}}
	o := l.cfg.Options
	o.BundleRoot, o.Now = root, l.cfg.Now()
	res := dagspec.Load(rec, self, o)

	out := dagprocessor.LoadResult{Problems: res.Problems, Warnings: res.Warnings}
	for _, d := range res.DAGs {
		out.DAGs = append(out.DAGs, dagprocessor.LoadedDAG{DagID: d.DagID, Document: d.Document})
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for p, hash := range rec.files {
		if p == self {
			continue
		}
		if rel, ok := strings.CutPrefix(p, strings.TrimSuffix(root, "/")+"/"); ok {
			p = rel
		}
		out.Dependencies = append(out.Dependencies, dagprocessor.Dependency{Path: p, Hash: hash})
	}
	sort.Slice(out.Dependencies, func(i, j int) bool { return out.Dependencies[i].Path < out.Dependencies[j].Path })
	for n := range rec.inputs {
		out.Inputs = append(out.Inputs, n)
	}
	sort.Strings(out.Inputs)
	if rec.relative {
		out.ValidUntil = o.Now.UTC().Truncate(dayGrain).Add(dayGrain)
	}
	return out
}

// recorder is a Source that notes what it is asked.
type recorder struct {
	dagspec.Source
	self    string // the DAG file, whose content was read already
	content []byte

	mu       sync.Mutex
	files    map[string]string // hash by path
	inputs   map[string]bool
	relative bool // a YAML file may hold relative dates
}

// ReadFile reads a file and notes its hash, or that it is missing.
func (r *recorder) ReadFile(p string) ([]byte, error) {
	b, err := r.content, error(nil)
	if p != r.self {
		b, err = r.Source.ReadFile(p)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_, noted := r.files[p]
	switch {
	case err == nil:
		if !noted {
			r.files[p] = blob.Hash(b)
		}
		r.relative = r.relative || isYAML(p) && relativeDate.Match(b)
	case errors.Is(err, fs.ErrNotExist) && !noted:
		r.files[p] = dagprocessor.Missing
	}
	return b, err
}

func isYAML(p string) bool { return strings.HasSuffix(p, ".yml") || strings.HasSuffix(p, ".yaml") }

// IsDir notes a folder that does not exist: it may appear.
func (r *recorder) IsDir(p string) bool {
	if r.Source.IsDir(p) {
		return true
	}
	if !r.exists(p) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if _, noted := r.files[p]; !noted {
			r.files[p] = dagprocessor.Missing
		}
	}
	return false
}

// exists reports whether a path may be there. A Source that is not this machine's
// file system has a method Exists.
func (r *recorder) exists(p string) bool {
	if s, ok := r.Source.(interface{ Exists(path string) bool }); ok {
		return s.Exists(p)
	}
	_, err := os.Stat(filepath.FromSlash(p))
	return !errors.Is(err, fs.ErrNotExist)
}

// LookupEnv notes the name of an environment variable.
func (r *recorder) LookupEnv(name string) (string, bool) {
	r.note(inputEnv + name)
	return r.Source.LookupEnv(name)
}

// Variable notes the key of an Airflow variable.
func (r *recorder) Variable(key string) (string, bool) {
	r.note(inputVariable + key)
	return r.Source.Variable(key)
}

func (r *recorder) note(input string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inputs[input] = true
}
