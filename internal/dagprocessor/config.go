package dagprocessor

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"runtime"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/bundle"
	"github.com/gustflow/gust/internal/store"
)

// Config says what to process and how. Folder, Store, Bundles and Loader are
// required; every other zero value is a good default.
type Config struct {
	// Folder is the DAG folder ([core] dags_folder).
	Folder string
	// Source replaces Folder: where the DAG files lie if that is not a folder of
	// this machine. Run cannot watch it.
	Source Source
	// CacheFile keeps what was registered between starts; "" for none. Cache is used
	// instead if it is set.
	CacheFile string
	Cache     Cache
	Store     *store.Store
	Bundles   *bundle.Store
	Loader    Loader
	Scan      ScanOptions

	// NextDates sets the next_dagrun fields of a DAG that is new, back, mended or
	// whose schedule changed. It may be called several times for one change and
	// must not call the processor. Default: the fields stay as they are. An
	// airflow.InvalidError is a problem of the DAG file.
	NextDates func(ctx context.Context, m *airflow.DagModel, dag *airflow.DAG) error
	// Warn returns what to warn of in a DAG that loads, such as what this deployment
	// cannot run. nil = nothing.
	Warn func(dag *airflow.DAG) []airflow.Problem
	// OnChange is told the DAGs, sorted, that were created or changed, after the
	// Store has them. It is called from one goroutine and should return soon.
	OnChange func(ids []airflow.DagID)
	// Announce is told, before the cache is written, the DAGs of all files that were
	// registered since it last succeeded, changed or not: telling them twice must be
	// harmless. If it fails, the scan fails and they are told with the next one, also
	// after a crash.
	Announce func(ctx context.Context, ids []airflow.DagID) error
	// Checkpoint is how often a long scan announces and writes the cache on its way;
	// 0 for at the end only.
	Checkpoint time.Duration
	// OnScan is told the outcome of every scan, after OnChange.
	OnScan func(Summary)
	// Progress is told how far a scan with much to parse has come.
	Progress func(Progress)

	// PausedAtCreation is [core] dags_are_paused_at_creation; default true.
	PausedAtCreation *bool
	// RefreshInterval is the time between full scans ([dag_processor]
	// refresh_interval); default 300 s.
	RefreshInterval time.Duration
	// MendInterval is how often a file with an import error is parsed again although
	// nothing it is known to depend on has changed, for what a loader cannot tell,
	// such as a Python module installed meanwhile ([dag_processor]
	// min_file_process_interval); default 30 s.
	MendInterval time.Duration
	// PollInterval replaces RefreshInterval where the folder cannot be watched;
	// default 1 s.
	PollInterval time.Duration
	// StaleThreshold is how long a file must be gone before its DAGs are stale
	// ([dag_processor] stale_dag_threshold); default 50 s, negative for at once.
	StaleThreshold time.Duration
	// Debounce is the quiet time after a change before the folder is scanned;
	// default 50 ms. Changes that never cease delay a scan by 8 times this at most.
	Debounce time.Duration
	// LoadTimeout bounds the parsing of one file ([core] dagbag_import_timeout);
	// default 30 s.
	LoadTimeout time.Duration
	// Parallelism is the most files parsed at once; default GOMAXPROCS.
	Parallelism int
	// Now is the clock; default time.Now.
	Now func() time.Time
	// Log gets what no import error can say; default slog.Default().
	Log *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if c.Folder == "" && c.Source == nil || c.Store == nil || c.Bundles == nil || c.Loader == nil {
		return c, errors.New("dagprocessor: Config needs Folder or Source, Store, Bundles and Loader")
	}
	if c.Source == nil {
		var err error
		if c.Folder, err = filepath.Abs(c.Folder); err != nil {
			return c, err
		}
		c.Source = Folder(c.Folder)
	}
	if c.Cache == nil && c.CacheFile != "" {
		c.Cache = CacheFile(c.CacheFile)
	}
	c.Scan = c.Scan.withDefaults()
	setDefault(&c.NextDates, c.NextDates == nil, func(context.Context, *airflow.DagModel, *airflow.DAG) error { return nil })
	setDefault(&c.OnChange, c.OnChange == nil, func([]airflow.DagID) {})
	setDefault(&c.OnScan, c.OnScan == nil, func(Summary) {})
	setDefault(&c.Progress, c.Progress == nil, func(Progress) {})
	paused := true
	setDefault(&c.PausedAtCreation, c.PausedAtCreation == nil, &paused)
	setDefault(&c.RefreshInterval, c.RefreshInterval == 0, 300*time.Second)
	setDefault(&c.MendInterval, c.MendInterval == 0, 30*time.Second)
	setDefault(&c.PollInterval, c.PollInterval == 0, time.Second)
	setDefault(&c.StaleThreshold, c.StaleThreshold == 0, 50*time.Second)
	setDefault(&c.Debounce, c.Debounce == 0, 50*time.Millisecond)
	setDefault(&c.LoadTimeout, c.LoadTimeout == 0, 30*time.Second)
	setDefault(&c.Parallelism, c.Parallelism == 0, runtime.GOMAXPROCS(0))
	setDefault(&c.Now, c.Now == nil, time.Now)
	setDefault(&c.Log, c.Log == nil, slog.Default())
	return c, nil
}

func setDefault[T any](p *T, absent bool, v T) {
	if absent {
		*p = v
	}
}

// Progress says how far a scan has come.
type Progress struct {
	Parsed int `json:"parsed"` // files parsed and registered
	Total  int `json:"total"`  // files to parse
}

// Summary is the outcome of a scan.
type Summary struct {
	Files        int             `json:"files"`         // DAG files found
	Parsed       int             `json:"parsed"`        // of them parsed now
	Dags         int             `json:"dags"`          // DAGs registered by all files
	Changed      []airflow.DagID `json:"changed"`       // created or changed, sorted
	Stale        []airflow.DagID `json:"stale"`         // became stale, sorted
	ImportErrors int             `json:"import_errors"` // files with one
	Duration     time.Duration   `json:"duration"`      // nanoseconds
	// Err is what kept the scan from being complete, such as a store that cannot
	// be written; it is tried again.
	Err error `json:"-"`
	// Next is when to scan again although nothing is heard; zero = no need.
	Next time.Time `json:"-"`
	// CacheErr is why the cache could not be written, if it could not. ErrConflict:
	// another processor has written it.
	CacheErr error `json:"-"`
}
