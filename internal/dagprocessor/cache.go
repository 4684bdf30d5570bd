package dagprocessor

import (
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
}

// readCache returns what the cache file holds for this folder and loader, or
// nil: a cache that is absent, damaged or of other circumstances is no error.
func readCache(name, root, fingerprint string) *cacheDoc {
	if name == "" {
		return nil
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	var d cacheDoc
	if json.Unmarshal(data, &d) != nil || d.Format != cacheFormat || d.Root != root || d.Fingerprint != fingerprint {
		return nil
	}
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

// write replaces the cache file. It is not synced: a lost cache only costs time.
func (d *cacheDoc) write(name string) error {
	data, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("dagprocessor: cache: %w", err)
	}
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
