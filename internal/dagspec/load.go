package dagspec

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// Source is everything a load may look at besides its arguments. Paths are
// absolute and use slashes.
type Source interface {
	// ReadFile returns a file's bytes; a missing file is fs.ErrNotExist.
	ReadFile(path string) ([]byte, error)
	// IsDir reports whether path is a directory.
	IsDir(path string) bool
	// LookupEnv reads an environment variable for $NAME in DAG files.
	LookupEnv(name string) (string, bool)
	// Variable reads an Airflow Variable for variables_as_arguments.
	Variable(key string) (string, bool)
}

// Dir is a Source of the local file system and environment. Airflow Variables
// come from Vars, else from AIRFLOW_VAR_<KEY>.
type Dir struct {
	Env  func(string) (string, bool) // nil = os.LookupEnv
	Vars func(string) (string, bool)
}

// ReadFile implements Source.
func (Dir) ReadFile(p string) ([]byte, error) { return os.ReadFile(p) }

// IsDir implements Source.
func (Dir) IsDir(p string) bool { st, err := os.Stat(p); return err == nil && st.IsDir() }

// LookupEnv implements Source.
func (d Dir) LookupEnv(name string) (string, bool) {
	if d.Env != nil {
		return d.Env(name)
	}
	return os.LookupEnv(name)
}

// Variable implements Source.
func (d Dir) Variable(key string) (string, bool) {
	if v, ok := d.LookupEnv("AIRFLOW_VAR_" + strings.ToUpper(key)); ok {
		return v, true
	}
	if d.Vars != nil {
		return d.Vars(key)
	}
	return "", false
}

// Limits bound what one file may cost. Zero fields mean the defaults.
type Limits struct {
	FileBytes int // of one file; default 4 MiB
	Depth     int // of nested values; default 100
	Nodes     int // values of a file with its aliases expanded; default 500,000
	Tasks     int // of one DAG; default 20,000
}

func (l Limits) withDefaults() Limits {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&l.FileBytes, 4<<20)
	def(&l.Depth, 100)
	def(&l.Nodes, 500_000)
	def(&l.Tasks, 20_000)
	return l
}

// Options of a load.
type Options struct {
	// BundleRoot is the folder of the DAG bundle: reported and stored paths are
	// relative to it.
	BundleRoot string
	// DefaultsRoot is where the chain of defaults.yml files ends; "" means BundleRoot.
	DefaultsRoot string
	// Now is the time for relative dates ("2 days").
	Now time.Time
	// Strict accepts and honours exactly what dag-factory 1.1 on Airflow 3.3.2
	// does; see the package comment.
	Strict bool
	// Python inspects Python sources; nil leaves callables unchecked.
	Python Python
	Limits Limits
	// Config are the installation's defaults of DAGs and tasks.
	Config Config
}

// DAG is one DAG of a file.
type DAG struct {
	DagID airflow.DagID
	// Document is the serialized DAG (version 3 with the gust extension).
	Document []byte
	// DAG is Document as airflow.ParseDAG reads it.
	DAG *airflow.DAG
}

// File is one file that a load read, with the hash of its content. Every file
// a DAG depends on is named in its document's gust.source_files.
type File struct {
	Path   string // relative to the bundle where it lies below it
	SHA256 string
}

// Result is what a file holds. A file with problems may still hold good DAGs.
type Result struct {
	DAGs     []DAG
	Problems []airflow.Problem // what keeps a DAG (or the file) from loading
	Warnings []airflow.Problem
	Files    []File // sorted by path
}

// IsDefaultsFile reports whether a file of a DAG folder holds defaults for the
// DAGs beside and below it rather than DAGs.
func IsDefaultsFile(p string) bool {
	b := path.Base(p)
	return b == "defaults.yml" || b == "defaults.yaml"
}

// Err returns the problems as one error, or nil.
func (r *Result) Err() error {
	if len(r.Problems) == 0 {
		return nil
	}
	return &airflow.InvalidError{Problems: r.Problems}
}

type loader struct {
	src    Source
	opt    Options
	limits Limits
	cfg    Config
	now    time.Time
	py     Python

	files    []*sourceFile
	problems []airflow.Problem
	warnings []airflow.Problem
	zones    map[string]*timezone
	nodes    int

	contents     map[string][]byte
	used         []string // files of the DAG being built
	depended     map[string]bool
	warnedPython bool
	classes      map[string]*opClass
}

// Load reads the DAG file at p, an absolute path. It never fails as a whole:
// what is wrong is in the result.
func Load(src Source, p string, opt Options) (res *Result) {
	l := &loader{src: src, opt: opt, limits: opt.Limits.withDefaults(), cfg: opt.Config.withDefaults(), now: opt.Now, py: opt.Python,
		zones: map[string]*timezone{}, contents: map[string][]byte{}, depended: map[string]bool{}, classes: map[string]*opClass{}}
	res = &Result{}
	defer func() {
		if r := recover(); r != nil {
			l.report(fmt.Errorf("the loader failed: %v; please report this as a bug of Gust", r), "", pos{})
		}
		res.Problems, res.Warnings = l.problems, l.warnings
		for name, b := range l.contents {
			sum := sha256.Sum256(b)
			res.Files = append(res.Files, File{l.rel(name), hex.EncodeToString(sum[:])})
		}
		sort.Slice(res.Files, func(i, j int) bool { return res.Files[i].Path < res.Files[j].Path })
	}()
	res.DAGs = l.file(p)
	return res
}

// rel returns the path as reported: relative to the bundle if it lies below it.
func (l *loader) rel(p string) string {
	if root := strings.TrimSuffix(l.opt.BundleRoot, "/"); root != "" {
		if r, ok := strings.CutPrefix(p, root+"/"); ok {
			return r
		}
	}
	return p
}

func (l *loader) inBundle(p string) bool {
	root := strings.TrimSuffix(l.opt.BundleRoot, "/")
	return root == "" || strings.HasPrefix(p, root+"/")
}

// read returns a file's bytes and makes the DAG depend on it.
func (l *loader) read(p string) ([]byte, error) {
	p = path.Clean(p)
	b, ok := l.contents[p]
	if !ok {
		var err error
		if b, err = l.src.ReadFile(p); err != nil {
			return nil, err
		}
		l.contents[p] = b
	}
	l.use(p)
	return b, nil
}

// use makes the DAG depend on a file.
func (l *loader) use(p string) {
	for _, u := range l.used {
		if u == p {
			return
		}
	}
	l.used = append(l.used, p)
	if _, ok := l.contents[p]; !ok {
		if b, err := l.src.ReadFile(p); err == nil {
			l.contents[p] = b
		}
	}
}

// yamlFile reads, expands and parses a file.
func (l *loader) yamlFile(p string) (value, int32, error) {
	b, err := l.read(p)
	l.files = append(l.files, &sourceFile{name: l.rel(p), path: p})
	id := int32(len(l.files))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, id, pyErr("FileNotFoundError", "[Errno 2] No such file or directory: '%s'", p).in("", pos{id, 1, 1})
		}
		return nil, id, pyErr("OSError", "%v", err).in("", pos{id, 1, 1})
	}
	if len(b) > l.limits.FileBytes {
		return nil, id, located(errTooLarge(len(b), l.limits.FileBytes), "", pos{id, 1, 1})
	}
	f := l.files[id-1]
	f.raw = string(trimBOM(b))
	f.text, f.repl = expandEnv(f.raw, l.src.LookupEnv)
	if len(f.text) > 4*l.limits.FileBytes {
		return nil, id, located(errTooLarge(len(f.text), 4*l.limits.FileBytes), "", pos{id, 1, 1})
	}
	l.nodes = 0
	v, err := l.readYAML(id, f.text)
	return v, id, err
}

// configFile reads a file that must hold a mapping and builds the objects of
// each of its root keys; keys that fail are reported and returned apart.
func (l *loader) configFile(p string, prefix string) (cfg *dict, failed map[string]bool, ok bool) {
	v, id, err := l.yamlFile(p)
	start := pos{id, 1, 1}
	if err != nil {
		l.report(err, "", start)
		return nil, nil, false
	}
	d, isDict := v.(*dict)
	if !isDict {
		what := "keys"
		if prefix != "" {
			what = "get"
		}
		l.report(pyErr("AttributeError", "'%s' object has no attribute '%s'", typeName(v), what).
			hint("expected a mapping of dag_id to DAG, found %s", describeEmpty(v)), "", start)
		return nil, nil, false
	}
	cfg, failed = &dict{}, map[string]bool{}
	for _, e := range d.entries {
		name := pyStr(e.key)
		l.nodes = 0 // a budget for each root key: an alias bomb must not hurt its neighbours
		x, err := l.cast(e.val, name)
		if err == nil {
			x, err = l.fold(x, name)
		}
		if err != nil {
			l.report(err, name, e.vpos)
			failed[name] = true
			continue
		}
		e.val = x
		cfg.set(e)
	}
	return cfg, failed, true
}

func describeEmpty(v value) string {
	if v == nil {
		return "an empty file"
	}
	return "a " + typeName(v)
}

// file loads one DAG file.
func (l *loader) file(p string) []DAG {
	cfg, failed, ok := l.configFile(p, "")
	if !ok {
		return nil
	}
	def, levels, ok := l.defaults(p, cfg)
	if !ok || failed["default"] {
		return nil
	}
	defText := dumpYAML(oneKey("default", def))
	common := append([]string(nil), l.used...)
	var out []DAG
	for _, e := range cfg.entries {
		if e.key == "default" || e.key == "task_groups" {
			continue
		}
		l.used = append([]string(nil), common...)
		l.depended = map[string]bool{}
		if d, ok := l.dag(e, def, levels, defText); ok {
			out = append(out, d)
		}
	}
	return out
}

func oneKey(k value, v value) *dict { return &dict{entries: []entry{{key: k, val: v}}} }
