package retention

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// archivePrefix begins the name of an archive, as that of Airflow's archive tables.
const archivePrefix = "_airflow_deleted__"

var archiveName = regexp.MustCompile(`^` + archivePrefix + `(\w+)__(\d{14})\.jsonl$`)

// archive writes rows that are about to be removed as lines of JSON, one file
// for each table. A nil archive keeps nothing.
type archive struct {
	dir   string
	stamp string
	files map[Table]*archiveFile
	err   error
}

type archiveFile struct {
	name string
	f    *os.File
	w    *bufio.Writer
}

func newArchive(dir string, now time.Time) *archive {
	return &archive{dir: dir, stamp: now.Format("20060102150405"), files: map[Table]*archiveFile{}}
}

// add adds a row. Its error is that of the next sync.
func (a *archive) add(t Table, row any) {
	if a == nil || a.err != nil {
		return
	}
	file := a.files[t]
	if file == nil {
		if a.err = os.MkdirAll(a.dir, 0o700); a.err != nil {
			return
		}
		name := filepath.Join(a.dir, archivePrefix+string(t)+"__"+a.stamp+".jsonl")
		f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			a.err = err
			return
		}
		file = &archiveFile{name: name, f: f, w: bufio.NewWriter(f)}
		a.files[t] = file
	}
	b, err := json.Marshal(row)
	if err == nil {
		_, err = file.w.Write(append(b, '\n'))
	}
	a.err = err
}

// sync makes everything added so far durable: only then may it be removed.
func (a *archive) sync() error {
	if a == nil {
		return nil
	}
	for _, f := range a.files {
		if err := f.w.Flush(); err != nil && a.err == nil {
			a.err = err
		}
		if err := f.f.Sync(); err != nil && a.err == nil {
			a.err = err
		}
	}
	if a.err != nil {
		return fmt.Errorf("archive: %w; nothing more is removed", a.err)
	}
	return nil
}

// Close syncs and closes the files.
func (a *archive) Close() error {
	err := a.sync()
	for _, f := range a.files {
		err = errors.Join(err, f.f.Close())
	}
	return err
}

func (a *archive) names() map[Table]string {
	out := map[Table]string{}
	for t, f := range a.files {
		out[t] = f.name
	}
	return out
}

// Archived is one archive of a folder.
type Archived struct {
	Table string    `json:"table_name"`
	At    time.Time `json:"archived_at"`
	Path  string    `json:"path"`
}

// ListArchives lists the archives of a folder by table and date.
func ListArchives(dir string) ([]Archived, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("archives: %w", err)
	}
	var out []Archived
	for _, e := range entries {
		m := archiveName.FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		at, err := time.Parse("20060102150405", m[2])
		if err != nil {
			continue // no archive of ours
		}
		out = append(out, Archived{Table: m[1], At: at, Path: filepath.Join(dir, e.Name())})
	}
	sort.Slice(out, func(i, j int) bool {
		return out[i].Table < out[j].Table || out[i].Table == out[j].Table && out[i].At.Before(out[j].At)
	})
	return out, nil
}

// memory is what a Cleaner remembers between calls.
type memory struct {
	// Documents are those that were found unreferenced.
	Documents map[string]Garbage `json:"documents"`
	// XComs has, by DAG, the date up to which XComs were removed.
	XComs map[airflow.DagID]time.Time `json:"xcoms"`
}

func readMemory(path string) (memory, error) {
	m := memory{}
	b, err := os.ReadFile(path)
	if err == nil && json.Unmarshal(b, &m) != nil {
		m = memory{} // damaged: what it knew is found again
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if m.Documents == nil {
		m.Documents = map[string]Garbage{}
	}
	if m.XComs == nil {
		m.XComs = map[airflow.DagID]time.Time{}
	}
	return m, err
}

func (m memory) write(path string) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
