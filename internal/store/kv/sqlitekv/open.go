package sqlitekv

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/store/kv"
)

const (
	// applicationID ("Gust") and formatVersion are in the SQLite header, as application_id and user_version.
	applicationID = 0x47757374
	formatVersion = 1
)

// Options configure a store. The zero value is a good default.
type Options struct {
	// Schema is the indexes; default [kv.DefaultSchema]. Opening an existing file with other indexes rebuilds them.
	Schema kv.Schema
	// BusyTimeout is how long a write waits for another process's write lock; default 5 s.
	BusyTimeout time.Duration
	// Readers is the most concurrent reads; more wait. Default twice GOMAXPROCS, at least 4.
	Readers int
	// CheckBytes is the file size up to which Open checks every page; default 8 MB, negative for never. Larger files
	// get the cheap checks only: header, size, schema, format row. See [Store.Check].
	CheckBytes int64
	// CheckpointBytes is about how much write-ahead log accumulates before it is copied into the file; default 8 MB.
	CheckpointBytes int64
	// Now is the clock for forgetting tokens and collecting expired items; default time.Now.
	Now func() time.Time
	// maxPages, when positive, makes SQLite report a full disk beyond it. For tests.
	maxPages int
}

// Store is a [kv.Driver] in a SQLite file.
type Store struct {
	path string
	opts Options

	// mu is held for reading by every call in progress and for writing by Close.
	mu       sync.RWMutex
	closed   bool
	closing  sync.Once
	closeErr error

	readers chan *conn // idle reading connections; nil stands for one not opened yet
	queue   chan *request
	w       *writer
	k       *keeper
}

var _ kv.Driver = (*Store)(nil)

// Open opens the store in the file at path, creating it, and its folder, when there is none. The errors are those of
// package kv: ErrReadOnly, ErrDiskFull, ErrCorrupt, ErrNewerFormat (none of which changes the file), ErrThrottled,
// ErrUnavailable, ErrInvalid.
func Open(path string, opts Options) (*Store, error) {
	s, err := open(path, opts)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", explain(path, err))
	}
	return s, nil
}

func open(path string, opts Options) (*Store, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", kv.ErrUnavailable, path, err)
	}
	if err := opts.setDefaults(); err != nil {
		return nil, err
	}
	// Closing any descriptor of the file, as create does, drops the locks that this process has on it.
	openMu.Lock()
	defer openMu.Unlock()
	fresh, err := create(abs)
	if err != nil {
		return nil, err
	}
	if !fresh {
		if fresh, err = probe(abs, opts); err != nil {
			return nil, err
		}
	}
	s := &Store{path: abs, opts: opts, queue: make(chan *request, 1024), readers: make(chan *conn, opts.Readers)}
	for range opts.Readers {
		s.readers <- nil
	}
	c, err := s.dialWriter()
	if err != nil {
		return nil, err
	}
	if err := s.prepareFile(c, fresh); err != nil {
		return nil, errors.Join(err, c.close())
	}
	if s.k, err = s.startKeeper(); err != nil {
		return nil, errors.Join(err, c.close())
	}
	if s.w, err = s.startWriter(c); err != nil {
		s.k.stop()
		return nil, errors.Join(err, c.close())
	}
	return s, nil
}

var openMu sync.Mutex

var indexNameRE = regexp.MustCompile(`^[a-z][a-z0-9_]{0,30}$`)

func (o *Options) setDefaults() error {
	if o.Schema.Indexes == nil {
		o.Schema = kv.DefaultSchema()
	}
	for _, ix := range o.Schema.Indexes {
		if !indexNameRE.MatchString(string(ix.Name)) {
			return fmt.Errorf("%w: index name %q; use lower-case letters, digits and _", kv.ErrInvalid, ix.Name)
		}
	}
	if o.BusyTimeout <= 0 {
		o.BusyTimeout = 5 * time.Second
	}
	if o.Readers <= 0 {
		o.Readers = max(4, 2*runtime.GOMAXPROCS(0))
	}
	if o.CheckBytes == 0 {
		o.CheckBytes = 8 << 20
	}
	if o.CheckpointBytes <= 0 {
		o.CheckpointBytes = 8 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// create makes an empty file, readable by its owner only (it holds connections and variables), unless there is one.
func create(path string) (fresh bool, err error) {
	if fi, err := os.Stat(path); err == nil {
		if !fi.Mode().IsRegular() {
			return false, fmt.Errorf("%w: %s is not a file; name a file", kv.ErrInvalid, path)
		}
		return fi.Size() == 0, nil
	}
	fail := func(err error) error {
		kind := kv.ErrUnavailable
		if errors.Is(err, os.ErrPermission) || strings.Contains(err.Error(), "read-only") {
			kind = kv.ErrReadOnly
		}
		return fmt.Errorf("%w: %w; choose a folder that this user can write to", kind, err)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, fail(err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, os.ErrExist) {
		return false, nil // another process was faster
	}
	if err != nil {
		return false, fail(err)
	}
	if err := f.Close(); err != nil {
		return false, fail(err)
	}
	// Without this the file itself could be lost with a power failure although its content was synced.
	d, err := os.Open(dir)
	if err != nil {
		return false, fail(err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, os.ErrInvalid) {
		return false, fail(err)
	}
	return true, nil
}

// probe looks at an existing file through a read-only connection, so that a file which is not ours, is damaged or is
// of a newer format is left exactly as it is. It reports whether the file is still empty.
func probe(path string, opts Options) (empty bool, err error) {
	c, err := dial(path, "ro", busyPragma(opts))
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	app, err := c.number("PRAGMA application_id")
	if err != nil {
		return false, err
	}
	version, err := c.number("PRAGMA user_version")
	if err != nil {
		return false, err
	}
	tables, err := c.number("SELECT count(*) FROM sqlite_schema")
	if err != nil {
		return false, err
	}
	if app == 0 && version == 0 && tables == 0 {
		return true, nil
	}
	if app != applicationID {
		return false, fmt.Errorf("%w: %s is a SQLite database of another program (application_id %#x); name another file", kv.ErrCorrupt, path, app)
	}
	if err := checkVersion(path, version); err != nil {
		return false, err
	}
	if fi, err := os.Stat(path); err == nil && fi.Size() <= opts.CheckBytes {
		return false, check(c, path, "quick_check(1)")
	}
	return false, nil
}

func checkVersion(path string, version int64) error {
	if version > formatVersion {
		return fmt.Errorf("%w: %s has format %d, this program knows up to %d; use the newer program, or restore a backup made before the upgrade",
			kv.ErrNewerFormat, path, version, formatVersion)
	}
	return nil
}

func check(c *conn, path, pragma string) error {
	v, err := c.scalar("PRAGMA " + pragma)
	if err != nil {
		return err
	}
	if v != "ok" {
		return fmt.Errorf("%w: %s: %v; keep a copy and restore the file from a backup", kv.ErrCorrupt, path, v)
	}
	return nil
}

func busyPragma(o Options) string {
	return "PRAGMA busy_timeout=" + strconv.FormatInt(max(1, o.BusyTimeout.Milliseconds()), 10)
}

func (s *Store) dialWriter() (*conn, error) {
	// The keeper does the checkpoints, so that no commit has to wait for one.
	c, err := dial(s.path, "rw", busyPragma(s.opts), "PRAGMA synchronous=FULL", "PRAGMA cell_size_check=ON",
		"PRAGMA cache_size=-16000", "PRAGMA temp_store=MEMORY", "PRAGMA trusted_schema=OFF", "PRAGMA wal_autocheckpoint=0",
		"PRAGMA journal_size_limit="+strconv.FormatInt(8*s.opts.CheckpointBytes, 10))
	if err != nil {
		return nil, err
	}
	if s.opts.maxPages > 0 {
		if err := c.run("PRAGMA max_page_count=" + strconv.Itoa(s.opts.maxPages)); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	return c, nil
}

// Items are in a rowid table with an index over the key: measured against WITHOUT ROWID, concurrent creates are twice as
// fast, because new rows fill pages one after the other and the index, without bodies, has few pages to touch.
const createTables = `
CREATE TABLE item(id INTEGER PRIMARY KEY, pk BLOB NOT NULL, sk BLOB NOT NULL, body BLOB NOT NULL, expires INTEGER, UNIQUE(pk, sk));
CREATE INDEX item_expires ON item(expires) WHERE expires IS NOT NULL;
CREATE TABLE token(token BLOB PRIMARY KEY, print BLOB NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE format(id INTEGER PRIMARY KEY CHECK(id = 1), version INTEGER NOT NULL, writer INTEGER NOT NULL, indexes TEXT NOT NULL);
`

// prepareFile brings the file to the state that this program writes: WAL mode, tables, the indexes of the schema.
func (s *Store) prepareFile(c *conn, fresh bool) error {
	if mode, err := s.walMode(c); err != nil {
		return err
	} else if mode != "wal" {
		return fmt.Errorf("%w: %s: the file system does not support write-ahead logging (journal mode %v); use a local disk",
			kv.ErrUnavailable, s.path, mode)
	}
	want, err := json.Marshal(s.opts.Schema.Indexes)
	if err != nil {
		return fmt.Errorf("%w: schema: %w", kv.ErrInvalid, err)
	}
	if !fresh {
		if have, err := s.readFormat(c); err == nil && have == string(want) {
			return nil
		} else if err != nil && !errors.Is(err, errNoFormat) {
			return err
		}
	}
	if err := c.run("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := s.migrate(c, string(want)); err != nil {
		return errors.Join(err, c.run("ROLLBACK"))
	}
	return c.run("COMMIT")
}

// walMode switches to write-ahead logging, which is remembered in the file. SQLite does not wait for other processes
// that do the same, so this does.
func (s *Store) walMode(c *conn) (any, error) {
	deadline := time.Now().Add(s.opts.BusyTimeout)
	for {
		mode, err := c.scalar("PRAGMA journal_mode=WAL")
		if err == nil || !errors.Is(s.explain(err), kv.ErrThrottled) || time.Now().After(deadline) {
			return mode, err
		}
		time.Sleep(2 * time.Millisecond)
	}
}

var errNoFormat = errors.New("no format")

// readFormat returns the indexes that the file has, errNoFormat when it is still empty.
func (s *Store) readFormat(c *conn) (string, error) {
	version, err := c.number("PRAGMA user_version")
	if err != nil {
		return "", err
	}
	if version == 0 {
		return "", errNoFormat
	}
	if err := checkVersion(s.path, version); err != nil {
		return "", err
	}
	v, err := c.scalar("SELECT indexes FROM format WHERE id = 1")
	if err != nil {
		return "", fmt.Errorf("%w: %s: the format row cannot be read: %w; restore the file from a backup", kv.ErrCorrupt, s.path, err)
	}
	have, _ := v.(string)
	return have, nil
}

// migrate creates the tables of an empty file and replaces the indexes when they differ. It runs in a transaction that
// holds the write lock, so it looks again at what there is.
func (s *Store) migrate(c *conn, want string) error {
	have, err := s.readFormat(c)
	switch {
	case errors.Is(err, errNoFormat):
		have = "[]"
		for _, sql := range append(strings.Split(strings.TrimSpace(createTables), "\n"),
			fmt.Sprintf("PRAGMA application_id=%d", applicationID), fmt.Sprintf("PRAGMA user_version=%d", formatVersion),
			fmt.Sprintf("INSERT INTO format VALUES(1, %d, %d, '[]')", formatVersion, formatVersion)) {
			if err := c.run(sql); err != nil {
				return err
			}
		}
	case err != nil:
		return err
	}
	if have == want {
		return nil
	}
	var old []kv.Index
	if err := json.Unmarshal([]byte(have), &old); err != nil {
		return fmt.Errorf("%w: %s: the index list %q cannot be read; restore the file from a backup", kv.ErrCorrupt, s.path, have)
	}
	for _, ix := range old {
		if err := c.run(`DROP TABLE IF EXISTS "ix_` + string(ix.Name) + `"`); err != nil {
			return err
		}
	}
	for _, ix := range s.opts.Schema.Indexes {
		if err := c.run(`CREATE TABLE "ix_` + string(ix.Name) + `"(ipk BLOB NOT NULL, isk BLOB NOT NULL, pk BLOB NOT NULL, sk BLOB NOT NULL,
			body BLOB NOT NULL, PRIMARY KEY(ipk, isk, pk, sk)) WITHOUT ROWID`); err != nil {
			return err
		}
	}
	if err := s.fillIndexes(c); err != nil {
		return err
	}
	return c.exec("UPDATE format SET indexes = ? WHERE id = 1", want)
}
