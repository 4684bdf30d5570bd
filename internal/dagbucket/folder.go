package dagbucket

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/bundle"
	"github.com/gustflow/gust/internal/dagprocessor"
)

// MaxBytes bounds the contents that a Folder keeps in memory: files are read more
// than once while they are registered.
const MaxBytes = 64 << 20

// Folder is the files below a prefix of a bucket, as the last Refresh listed them.
type Folder struct {
	bucket Bucket
	prefix string

	mu   sync.RWMutex
	view *listing

	cacheMu sync.Mutex
	cache   map[string][]byte // by key and version
	cached  int64
}

var _ dagprocessor.Source = (*Folder)(nil)

// NewFolder returns the folder below a prefix. It is empty until Refresh.
func NewFolder(b Bucket, prefix string) *Folder {
	return &Folder{bucket: b, prefix: CleanPrefix(prefix), view: newListing(), cache: map[string][]byte{}}
}

// Prefix is that of the folder's keys: "" or one that ends in a slash.
func (f *Folder) Prefix() string { return f.prefix }

// Root implements dagprocessor.Source.
func (f *Folder) Root() string { return strings.TrimSuffix(f.Name(""), "/") }

// Name implements dagprocessor.Source.
func (f *Folder) Name(name string) string { return f.bucket.Name() + "/" + f.prefix + name }

// listing is what one Refresh saw.
type listing struct {
	files    map[string]Object        // by name
	dirs     map[string][]fs.DirEntry // by name, "" for the root
	names    []string                 // of files, sorted
	digest   string
	problems []string
}

func newListing() *listing {
	return &listing{files: map[string]Object{}, dirs: map[string][]fs.DirEntry{"": nil}}
}

// Refresh implements dagprocessor.Source: it lists the bucket once.
func (f *Folder) Refresh(ctx context.Context) error {
	objects, err := f.bucket.List(ctx, f.prefix)
	if err != nil {
		return fmt.Errorf("DAG folder %s: %w", f.Root(), err)
	}
	l := newListing()
	h := sha256.New()
	for _, o := range objects {
		name, ok := strings.CutPrefix(o.Key, f.prefix)
		if !ok || name == "" || strings.HasSuffix(name, "/") {
			continue // a marker of a folder
		}
		if err := bundle.CheckPath(name); err != nil {
			l.problems = append(l.problems, fmt.Sprintf("the object %q is not used: its key cannot be a path; expected names with slashes between them", o.Key))
			continue
		}
		l.files[name] = o
		l.names = append(l.names, name)
		fmt.Fprintf(h, "%q %q\n", name, o.Version())
	}
	sort.Strings(l.names)
	l.digest = hex.EncodeToString(h.Sum(nil))
	l.tree()
	f.mu.Lock()
	f.view = l
	f.mu.Unlock()
	return nil
}

// tree makes the folders of the listed files. A name that is a file and a folder is
// the folder, as it would be where the files are copied to a disk.
func (l *listing) tree() {
	seen := map[string]bool{"": true}
	add := func(dir string, e fs.DirEntry) { l.dirs[dir] = append(l.dirs[dir], e) }
	for _, name := range l.names {
		for dir := parent(name); !seen[dir]; dir = parent(dir) {
			seen[dir] = true
			if l.dirs[dir] == nil {
				l.dirs[dir] = []fs.DirEntry{}
			}
			add(parent(dir), fs.FileInfoToDirEntry(dirInfo(path.Base(dir))))
		}
	}
	kept := l.names[:0]
	for _, name := range l.names {
		if _, isDir := l.dirs[name]; isDir {
			l.problems = append(l.problems, fmt.Sprintf("the object %q is not used: there are objects below %q; give one of them another name", name, name+"/"))
			delete(l.files, name)
			continue
		}
		kept = append(kept, name)
		add(parent(name), fs.FileInfoToDirEntry(fileInfo{l.files[name]}))
	}
	l.names = kept
	for _, es := range l.dirs {
		sort.Slice(es, func(i, j int) bool { return es[i].Name() < es[j].Name() })
	}
}

func parent(name string) string {
	if d := path.Dir(name); d != "." {
		return d
	}
	return ""
}

func (f *Folder) current() *listing {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view
}

// Digest is the same for two listings that show the same; "" before the first.
func (f *Folder) Digest() string { return f.current().digest }

// Problems implements dagprocessor.Troubled: keys that cannot be used.
func (f *Folder) Problems() []string { return f.current().problems }

// Names returns the names of all files, sorted. The caller does not change them.
func (f *Folder) Names() []string { return f.current().names }

// Object returns the listed version of a file.
func (f *Folder) Object(name string) (Object, bool) {
	o, ok := f.current().files[name]
	return o, ok
}

// ReadDir implements dagprocessor.Source.
func (f *Folder) ReadDir(name string) ([]fs.DirEntry, error) {
	es, ok := f.current().dirs[name]
	if !ok {
		return nil, notExist("readdir", name)
	}
	return es, nil
}

// Stat implements dagprocessor.Source.
func (f *Folder) Stat(name string) (fs.FileInfo, error) {
	l := f.current()
	if o, ok := l.files[name]; ok {
		return fileInfo{o}, nil
	}
	if _, ok := l.dirs[name]; ok {
		return dirInfo(path.Base(name)), nil
	}
	return nil, notExist("stat", name)
}

// Identity implements dagprocessor.Source.
func (f *Folder) Identity(name string) (string, error) { return name, nil }

// Open implements dagprocessor.Source.
func (f *Folder) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	o, ok := f.Object(name)
	if !ok {
		return nil, notExist("open", name)
	}
	id := o.Key + "\x00" + o.Version()
	f.cacheMu.Lock()
	data, ok := f.cache[id]
	f.cacheMu.Unlock()
	if ok {
		return io.NopCloser(bytes.NewReader(data)), nil
	}
	r, err := f.bucket.Get(ctx, o)
	if err != nil || o.Size > MaxBytes/8 {
		return r, err
	}
	data, err = io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	f.cacheMu.Lock()
	defer f.cacheMu.Unlock()
	if f.cached += int64(len(data)); f.cached > MaxBytes {
		clear(f.cache)
		f.cached = int64(len(data))
	}
	f.cache[id] = data
	return io.NopCloser(bytes.NewReader(data)), nil
}

func notExist(op, name string) error { return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist} }

// fileInfo describes a file; its version stands for its content.
type fileInfo struct{ o Object }

func (i fileInfo) Name() string       { return path.Base(i.o.Key) }
func (i fileInfo) Size() int64        { return i.o.Size }
func (i fileInfo) Mode() fs.FileMode  { return 0o644 }
func (i fileInfo) ModTime() time.Time { return i.o.LastModified }
func (i fileInfo) IsDir() bool        { return false }
func (i fileInfo) Sys() any           { return i.o }
func (i fileInfo) Version() string    { return i.o.Version() }
func (i fileInfo) Modeless() bool     { return true }

type dirInfo string

func (d dirInfo) Name() string     { return string(d) }
func (dirInfo) Size() int64        { return 0 }
func (dirInfo) Mode() fs.FileMode  { return fs.ModeDir | 0o755 }
func (dirInfo) ModTime() time.Time { return time.Time{} }
func (dirInfo) IsDir() bool        { return true }
func (dirInfo) Sys() any           { return nil }
