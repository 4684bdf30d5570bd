package retention

import (
	"bufio"
	"context"
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
	// At is where a request with Resume was interrupted; zero = it was not.
	At position `json:"at,omitzero"`
}

// position is a place among the runs of all DAGs, by ascending DAG id.
type position struct {
	Dag    airflow.DagID `json:"dag,omitempty"`
	Cursor string        `json:"cursor,omitempty"` // of the DAG's next page of runs
	// XComs is the date with which the DAG's first page was looked at.
	XComs time.Time `json:"xcoms,omitzero"`
}

func readMemory(ctx context.Context, s State) (memory, error) {
	m := memory{}
	b, err := s.Read(ctx)
	if err == nil && json.Unmarshal(b, &m) != nil {
		m = memory{} // absent or damaged: what it knew is found again
	}
	if m.Documents == nil {
		m.Documents = map[string]Garbage{}
	}
	if m.XComs == nil {
		m.XComs = map[airflow.DagID]time.Time{}
	}
	return m, err
}

func (m memory) write(ctx context.Context, s State) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return s.Write(ctx, b)
}

// State keeps what a Cleaner remembers between calls. Losing it costs a second
// look, no data.
type State interface {
	// Read returns what was written last, nothing if that is absent.
	Read(ctx context.Context) ([]byte, error)
	// Write replaces it whole.
	Write(ctx context.Context, b []byte) error
}

// StateFile is a State in a file, by its path.
type StateFile string

// Read implements State.
func (f StateFile) Read(context.Context) ([]byte, error) {
	b, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// Write implements State.
func (f StateFile) Write(_ context.Context, b []byte) error {
	path := string(f)
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
