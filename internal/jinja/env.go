package jinja

import (
	"container/list"
	"sync"
	"time"
)

// Limits bounds what one render may use. The zero value of a field means the
// default, which is far above what a template that builds a command needs.
type Limits struct {
	// MaxSteps bounds evaluated nodes and loop iterations (default 20 million).
	MaxSteps int
	// MaxAlloc bounds the bytes of all values built (default 512 MiB, counted
	// roughly and without garbage collection).
	MaxAlloc int
	// MaxOutput bounds the rendered text in bytes (default 64 MiB).
	MaxOutput int
	// MaxValueBytes bounds a single text or list (default 64 MiB).
	MaxValueBytes int
	// MaxIntBits bounds an integer's size (default 2 million bits).
	MaxIntBits int
	// MaxDepth bounds nested calls of macros, includes and recursive loops
	// (default 200); more is a RecursionError.
	MaxDepth int
	// MaxTime bounds the wall time of a render (default 60 s); checked every
	// few thousand steps.
	MaxTime time.Duration
}

func (l Limits) filled() Limits {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.MaxSteps, 20_000_000)
	def(&l.MaxAlloc, 512<<20)
	def(&l.MaxOutput, 64<<20)
	def(&l.MaxValueBytes, 64<<20)
	def(&l.MaxIntBits, 2_000_000)
	def(&l.MaxDepth, 200)
	if l.MaxTime <= 0 {
		l.MaxTime = 60 * time.Second
	}
	return l
}

// Loader finds the source of a template by name; a missing one is an error of
// class TemplateNotFound.
type Loader interface {
	Load(name string) (source string, err error)
}

// LoaderFunc is a function that loads.
type LoaderFunc func(name string) (string, error)

// Load calls the function.
func (f LoaderFunc) Load(name string) (string, error) { return f(name) }

// MapLoader loads from a map.
type MapLoader map[string]string

// Load returns the named source.
func (m MapLoader) Load(name string) (string, error) {
	if s, ok := m[name]; ok {
		return s, nil
	}
	return "", Errorf("TemplateNotFound", "%s", name)
}

// Environment holds the options of templates. Set the fields before the first
// use and do not change them after.
type Environment struct {
	BlockStart, BlockEnd       string
	VariableStart, VariableEnd string
	CommentStart, CommentEnd   string
	LineStatementPrefix        string
	LineCommentPrefix          string
	TrimBlocks, LstripBlocks   bool
	KeepTrailingNewline        bool
	NewlineSequence            string
	Autoescape                 bool
	// Undefined is the class of undefined values.
	Undefined UndefinedKind
	// Sandboxed forbids special attributes and large ranges.
	Sandboxed bool
	// Native makes Render return Python values (NativeEnvironment).
	Native bool
	// Extensions holds "do" and "loopcontrols" when enabled.
	Extensions map[string]bool
	// Filters, Tests and Globals add to or replace the built-in ones. A
	// filter's or test's first argument is the value.
	Filters map[string]*Func
	Tests   map[string]*Func
	Globals map[string]Value
	// Policies are Jinja's policies ("json.dumps_kwargs.sort_keys", ...).
	SortJSONKeys bool
	Loader       Loader
	Limits       Limits
	// Random gives numbers in [0, 1) to the random filter and lipsum; nil
	// makes them fail.
	Random func() float64
	// Clock bounds MaxTime; nil is time.Now.
	Clock func() time.Time

	cache templateCache
}

// NewEnvironment returns an environment with Jinja's defaults.
func NewEnvironment() *Environment {
	return &Environment{
		BlockStart: "{%", BlockEnd: "%}", VariableStart: "{{", VariableEnd: "}}", CommentStart: "{#", CommentEnd: "#}",
		NewlineSequence: "\n", Undefined: DefaultUndefined, SortJSONKeys: true,
		Extensions: map[string]bool{},
	}
}

func (env *Environment) filter(name string) *Func {
	if f, ok := env.Filters[name]; ok {
		return f
	}
	return builtinFilters[name]
}

func (env *Environment) test(name string) *Func {
	if f, ok := env.Tests[name]; ok {
		return f
	}
	return builtinTests[name]
}

// Template is a parsed template.
type Template struct {
	env    *Environment
	Name   string
	body   []stmt
	blocks map[string]*blockStmt
}

// Parse compiles source. Parsed templates are kept in a bounded cache by
// source, so parsing the same text again is cheap.
func (env *Environment) Parse(source string) (*Template, error) {
	return env.parseNamed(source, "")
}

func (env *Environment) parseNamed(source, name string) (*Template, error) {
	key := name + "\x00" + source
	if t := env.cache.get(key); t != nil {
		return t, nil
	}
	t, err := parseTemplate(env, source, name)
	if err != nil {
		return nil, err
	}
	env.cache.put(key, t, len(source))
	return t, nil
}

// Get loads and compiles a template by name.
func (env *Environment) Get(name string) (*Template, error) {
	if env.Loader == nil {
		return nil, Errorf("TypeError", "no loader for this environment specified")
	}
	src, err := env.Loader.Load(name)
	if err != nil {
		return nil, err
	}
	return env.parseNamed(src, name)
}

// Cache bounds: entries and bytes of source.
const (
	cacheEntries = 400
	cacheBytes   = 4 << 20
)

type templateCache struct {
	mu    sync.Mutex
	byKey map[string]*list.Element
	lru   list.List
	bytes int
}

type cacheEntry struct {
	key  string
	t    *Template
	size int
}

func (c *templateCache) get(key string) *Template {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[key]
	if !ok {
		return nil
	}
	c.lru.MoveToFront(e)
	return e.Value.(*cacheEntry).t
}

func (c *templateCache) put(key string, t *Template, size int) {
	if size > cacheBytes/4 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byKey == nil {
		c.byKey = map[string]*list.Element{}
	}
	if _, dup := c.byKey[key]; dup {
		return
	}
	c.byKey[key] = c.lru.PushFront(&cacheEntry{key, t, size})
	c.bytes += size
	for c.lru.Len() > cacheEntries || c.bytes > cacheBytes {
		e := c.lru.Back()
		old := c.lru.Remove(e).(*cacheEntry)
		delete(c.byKey, old.key)
		c.bytes -= old.size
	}
}
