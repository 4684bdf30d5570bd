// Package dagsync brings a folder of DAG files into a bucket: it compares the two,
// says what it would do (Plan), and does it (Apply). Files that DAG files need go
// first, DAG files after them, removals last, so that whoever looks at the bucket on
// the way sees no DAG file without its helpers.
package dagsync

import (
	"context"
	"crypto/md5" //nolint:gosec // S3's ETag, not a signature
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"sync"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/bundle"
	"github.com/gustflow/gust/internal/dagbucket"
	"github.com/gustflow/gust/internal/dagprocessor"
)

// Target is the bucket. Methods may be called concurrently.
type Target interface {
	// Name is how people call it, such as s3://bucket.
	Name() string
	// ListCurrent returns the objects below a prefix; VersionID may be "".
	ListCurrent(ctx context.Context, prefix string) ([]dagbucket.Object, error)
	// PutFile writes an object and keeps the SHA-256 (hex) of its content with it.
	PutFile(ctx context.Context, key string, content []byte, sha256 string) error
	// SHA256 returns what PutFile kept with an object, "" if nothing.
	SHA256(ctx context.Context, key string) (string, error)
	Delete(ctx context.Context, keys []string) error
}

// Action is what happens to one file.
type Action string

// The actions.
const (
	Add     Action = "add"
	Replace Action = "replace"
	Delete  Action = "delete"
	Keep    Action = "keep"  // the same on both sides
	Extra   Action = "extra" // only in the bucket, and left there
)

const (
	// parallel is how many files are on their way at once.
	parallel = 16
	// maxBytes is what S3 takes in one request.
	maxBytes = 5 << 30
)

// Step is one file of a plan.
type Step struct {
	Path   string `json:"path"` // relative, with slashes
	Action Action `json:"action"`
	Bytes  int64  `json:"bytes"`
	// Done and Error tell what came of it.
	Done  bool   `json:"done"`
	Error string `json:"error,omitempty"`
}

// Plan is what a sync does, by path.
type Plan struct {
	Dir    string `json:"dir"`
	Target string `json:"target"`
	Steps  []Step `json:"files"`

	to     Target
	prefix string
	dag    func(name string) bool
}

// Options say what to sync.
type Options struct {
	// Delete removes from the bucket what the folder does not hold.
	Delete bool
	// Exclude are patterns (path.Match) of names or of whole relative paths that are
	// neither written nor removed.
	Exclude []string
	Scan    dagprocessor.ScanOptions
}

// skipped are names that never belong to DAG files.
func skipped(name string, dir bool) bool {
	switch name {
	case ".git", ".hg", ".svn", "__pycache__", ".DS_Store", ".venv", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".idea", ".vscode":
		return true
	}
	return !dir && (strings.HasSuffix(name, ".pyc") || strings.HasSuffix(name, "~") || strings.HasSuffix(name, ".swp") || strings.HasPrefix(name, ".#") || strings.HasPrefix(name, "._"))
}

func (o Options) excluded(name string) (bool, error) {
	for _, p := range o.Exclude {
		for _, s := range []string{name, path.Base(name)} {
			if ok, err := path.Match(p, s); err != nil {
				return false, fmt.Errorf("pattern %q: %w", p, err)
			} else if ok {
				return true, nil
			}
		}
		if strings.HasPrefix(name, strings.TrimSuffix(p, "/")+"/") {
			return true, nil
		}
	}
	return false, nil
}

// files lists a folder: sizes by relative path. Symbolic links are followed.
func (o Options) files(dir string) (map[string]int64, error) {
	out := map[string]int64{}
	visited := map[string]bool{}
	var walk func(rel string) error
	walk = func(rel string) error {
		abs := filepath.Join(dir, filepath.FromSlash(rel))
		real, err := filepath.EvalSymlinks(abs)
		if err != nil || visited[real] {
			return err
		}
		visited[real] = true
		entries, err := os.ReadDir(abs)
		if err != nil {
			return err
		}
		for _, e := range entries {
			name := path.Join(rel, e.Name())
			fi, err := os.Stat(filepath.Join(abs, e.Name()))
			if errors.Is(err, fs.ErrNotExist) {
				continue // a dangling link, or gone meanwhile
			}
			if err != nil {
				return err
			}
			if no, err := o.excluded(name); err != nil {
				return err
			} else if no || skipped(e.Name(), fi.IsDir()) {
				continue
			}
			switch {
			case fi.IsDir():
				if err := walk(name); err != nil {
					return err
				}
			case fi.Mode().IsRegular():
				if err := bundle.CheckPath(name); err != nil {
					return fmt.Errorf("%s cannot be a key: %w", name, err)
				}
				out[name] = fi.Size()
			}
		}
		return nil
	}
	return out, walk("")
}

// New compares a folder with what lies below a prefix of a bucket. Nothing is
// written.
func New(ctx context.Context, dir string, to Target, prefix string, o Options) (*Plan, error) {
	prefix = dagbucket.CleanPrefix(prefix)
	p := &Plan{Dir: dir, Target: strings.TrimSuffix(to.Name()+"/"+prefix, "/"), to: to, prefix: prefix, dag: o.Scan.IsDagFile, Steps: []Step{}}
	local, err := o.files(dir)
	if err != nil {
		return nil, err
	}
	objects, err := to.ListCurrent(ctx, prefix)
	if err != nil {
		return nil, err
	}
	remote := map[string]dagbucket.Object{}
	for _, ob := range objects {
		if name := strings.TrimPrefix(ob.Key, prefix); name != "" && !strings.HasSuffix(name, "/") {
			remote[name] = ob
		}
	}
	for name, size := range local {
		s := Step{Path: name, Action: Add, Bytes: size}
		if _, there := remote[name]; there {
			s.Action = Replace
		}
		p.Steps = append(p.Steps, s)
	}
	for name, ob := range remote {
		if _, there := local[name]; there {
			continue
		}
		if no, err := o.excluded(name); err != nil {
			return nil, err
		} else if no {
			continue
		}
		s := Step{Path: name, Action: Extra, Bytes: ob.Size}
		if o.Delete {
			s.Action = Delete
		}
		p.Steps = append(p.Steps, s)
	}
	sort.Slice(p.Steps, func(i, j int) bool { return p.Steps[i].Path < p.Steps[j].Path })
	return p, p.compare(ctx, remote)
}

// compare finds the files that are the same on both sides.
func (p *Plan) compare(ctx context.Context, remote map[string]dagbucket.Object) error {
	return p.each(ctx, func(s *Step) bool { return s.Action == Replace }, func(s *Step) error {
		ob := remote[s.Path]
		if ob.Size != s.Bytes {
			return nil
		}
		content, err := p.read(s.Path)
		if err != nil {
			return err
		}
		sum := md5.Sum(content) //nolint:gosec // see above
		same := hex.EncodeToString(sum[:]) == strings.Trim(ob.ETag, `"`)
		if !same { // an ETag is no MD5 where objects are encrypted with a key or came in parts
			sha, err := p.to.SHA256(ctx, ob.Key)
			if err != nil {
				return err
			}
			same = sha != "" && sha == shaOf(content)
		}
		if same {
			s.Action = Keep
		}
		return nil
	})
}

func shaOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func (p *Plan) read(name string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(p.Dir, filepath.FromSlash(name)))
	if err == nil && int64(len(b)) > maxBytes {
		err = fmt.Errorf("%s: %w: at most 5 GB in one piece", name, airflow.ErrTooLarge)
	}
	return b, err
}

// each calls f for the steps that want selects, some at once, and joins the errors.
func (p *Plan) each(ctx context.Context, want func(*Step) bool, f func(*Step) error) error {
	var wg sync.WaitGroup
	slots := make(chan struct{}, parallel)
	errs := make([]error, len(p.Steps))
	for i := range p.Steps {
		s := &p.Steps[i]
		if !want(s) {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if errs[i] = ctx.Err(); errs[i] == nil {
				errs[i] = f(s)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Count returns the number of steps with one of the actions, and their bytes.
func (p *Plan) Count(as ...Action) (n int, bytes int64) {
	for _, s := range p.Steps {
		for _, a := range as {
			if s.Action == a {
				n++
				bytes += s.Bytes
			}
		}
	}
	return n, bytes
}

// Changes reports whether there is something to do.
func (p *Plan) Changes() bool {
	n, _ := p.Count(Add, Replace, Delete)
	return n > 0
}

// Apply carries the plan out and notes in each step what came of it. done is told of
// every finished file, one at a time; it may be nil. After an
// error the stages that follow are not begun: no DAG file is written if a helper
// could not be, and nothing is removed.
func (p *Plan) Apply(ctx context.Context, done func(Step)) error {
	var mu sync.Mutex
	finish := func(s *Step, err error) error {
		mu.Lock()
		defer mu.Unlock()
		if s.Done = err == nil; err != nil {
			s.Error = err.Error()
		}
		if done != nil {
			done(*s)
		}
		return err
	}
	put := func(s *Step) error {
		content, err := p.read(s.Path)
		if err == nil {
			err = p.to.PutFile(ctx, p.prefix+s.Path, content, shaOf(content))
		}
		return finish(s, err)
	}
	writes := func(dags bool) func(*Step) bool {
		return func(s *Step) bool { return (s.Action == Add || s.Action == Replace) && p.dag(s.Path) == dags }
	}
	if err := p.each(ctx, writes(false), put); err != nil {
		return err
	}
	if err := p.each(ctx, writes(true), put); err != nil {
		return err
	}
	var keys []string
	for _, s := range p.Steps {
		if s.Action == Delete {
			keys = append(keys, p.prefix+s.Path)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	err := p.to.Delete(ctx, keys)
	for i := range p.Steps {
		if p.Steps[i].Action == Delete {
			_ = finish(&p.Steps[i], err) // it is returned below
		}
	}
	return err
}

// ParseURL reads s3://bucket/prefix.
func ParseURL(s string) (bucket, prefix string, err error) {
	rest, ok := strings.CutPrefix(s, "s3://")
	bucket, prefix, _ = strings.Cut(rest, "/")
	if !ok || bucket == "" {
		return "", "", fmt.Errorf("%q is no place in S3: expected s3://bucket/prefix", s)
	}
	return bucket, dagbucket.CleanPrefix(prefix), nil
}
