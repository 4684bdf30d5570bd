package dagprocessor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// cacheFormat is the version of the cache file; another one is not read.
const cacheFormat = 1

// fileState is what was registered last of one DAG file.
type fileState struct {
	// Deps are the contents that led to it: the file itself and what it depended
	// on, with the hashes that were read.
	Deps        []Dependency `json:"deps"`
	Inputs      []string     `json:"inputs,omitempty"`
	InputDigest string       `json:"input_digest,omitempty"`
	ValidUntil  time.Time    `json:"valid_until,omitzero"`
	// Dags are those the file defined; one that did not load is not among them.
	Dags []dagState `json:"dags,omitempty"`
	// Conflicts are DAGs of the file that another file owns.
	Conflicts []airflow.DagID `json:"conflicts,omitempty"`
	// Broken says that the file has an import error.
	Broken   bool          `json:"broken,omitempty"`
	Duration time.Duration `json:"duration"`
	// Pending says that the Store does not have all of it, or that it is not known
	// whether it has: the file is parsed again.
	Pending bool `json:"-"`
}

type dagState struct {
	DagID  airflow.DagID `json:"dag_id"`
	Hash   string        `json:"hash"`
	Bundle string        `json:"bundle"`
	Tasks  int           `json:"tasks"`
}

type cacheDoc struct {
	Format      int                   `json:"format"`
	Root        string                `json:"root"`
	Fingerprint string                `json:"fingerprint"`
	Contents    map[string]*content   `json:"contents"`
	Files       map[string]*fileState `json:"files"`
	// Gone is when a file was first missed.
	Gone map[string]time.Time `json:"gone,omitempty"`
}

// Cache keeps what was registered last between processes. It is only trusted as
// far as the Store agrees.
type Cache interface {
	// Read returns what was written last; nil if there is nothing.
	Read(ctx context.Context) ([]byte, error)
	// Write replaces it. airflow.ErrConflict: another process has written since the
	// last Read or Write; nothing was replaced.
	Write(ctx context.Context, data []byte) error
}

// decodeCache returns what a cache holds for this folder and loader, or nil: one
// that is empty, damaged or of other circumstances is no error.
func decodeCache(data []byte, root, fingerprint string) *cacheDoc {
	var d cacheDoc
	if len(data) == 0 || json.Unmarshal(data, &d) != nil || d.Format != cacheFormat || d.Root != root || d.Fingerprint != fingerprint {
		return nil
	}
	setDefault(&d.Files, d.Files == nil, map[string]*fileState{})
	setDefault(&d.Contents, d.Contents == nil, map[string]*content{})
	setDefault(&d.Gone, d.Gone == nil, map[string]time.Time{})
	for k, c := range d.Contents {
		if c == nil {
			delete(d.Contents, k)
		}
	}
	for k, f := range d.Files {
		if f == nil {
			delete(d.Files, k)
		}
	}
	return &d
}

// CacheFile is a Cache in a file of this machine. It is not synced: a lost cache
// only costs time, and so does one that cannot be read.
func CacheFile(name string) Cache { return cacheFile(name) }

type cacheFile string

func (c cacheFile) Read(context.Context) ([]byte, error) {
	data, err := os.ReadFile(string(c))
	if err != nil {
		return nil, nil //nolint:nilerr // see CacheFile
	}
	return data, nil
}

func (c cacheFile) Write(_ context.Context, data []byte) error {
	name := string(c)
	removeOldTmp(name, time.Now())
	tmp, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".tmp-*") // mode 0600
	if err != nil {
		return fmt.Errorf("dagprocessor: cache: %w", err)
	}
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err != nil {
		os.Remove(tmp.Name())
		return fmt.Errorf("dagprocessor: cache: %w", err)
	}
	return nil
}

// removeOldTmp removes what a crash while writing the cache left behind.
func removeOldTmp(name string, now time.Time) {
	left, _ := filepath.Glob(name + ".tmp-*") // the pattern is valid unless the home's path is odd; then nothing is removed
	for _, f := range left {
		if fi, err := os.Stat(f); err == nil && fi.Mode().IsRegular() && now.Sub(fi.ModTime()) > time.Hour {
			if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return
			}
		}
	}
}
