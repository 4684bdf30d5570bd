package dagprocessor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/bundle"
)

// racyAge is how long before it was read a file must have been changed last for
// its stat to stand for its content: time stamps of some file systems have a
// granularity of 2 s, so a later change within it would not show.
const racyAge = 2 * time.Second

// content is the last known content of a file.
type content struct {
	Stamp stamp  `json:"t"`
	Hash  string `json:"h"` // Missing if there is no file
	// Racy says that the file was changed so shortly before it was read that its
	// stat does not stand for its content.
	Racy bool `json:"r,omitempty"`

	seen bool // used by an entry; others are forgotten when the cache is written
}

// contents knows the hashes of files, reading a file only when its stat differs
// from that of the last time. Keys are paths relative to the root with slashes,
// or absolute ones.
type contents struct {
	src Source
	// maxBytes is the size beyond which DAG files are not read.
	maxBytes int64
	known    map[string]*content
	now      func() time.Time
	dirty    bool // something was learnt since the cache was written

	// Of one scan:
	looked map[string]bool  // keys whose stat was compared already
	stamps map[string]stamp // stats that the scan made
	force  map[string]bool  // keys that were reported as changed, whatever their stat
	reads  int
}

func newContents(src Source, maxBytes int64, now func() time.Time) *contents {
	return &contents{src: src, maxBytes: maxBytes, known: map[string]*content{}, now: now}
}

// begin starts a scan.
func (c *contents) begin(stamps map[string]stamp, force map[string]bool) {
	c.looked, c.stamps, c.force, c.reads = map[string]bool{}, stamps, force, 0
}

// key returns the key of an absolute path.
func (c *contents) key(abs string) string {
	if rel, err := filepath.Rel(c.src.Root(), abs); err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return filepath.ToSlash(rel)
	}
	return abs
}

// hash returns the hash of a file's present content, or Missing. A file that
// exists and cannot be read is an error.
func (c *contents) hash(ctx context.Context, key string) (string, error) {
	k := c.known[key]
	if k != nil && c.looked[key] {
		return k.Hash, nil
	}
	st, ok := c.stamps[key]
	if !ok {
		fi, err := c.src.Stat(key)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			st = stamp{Size: -1}
		case err != nil:
			return "", err
		default:
			st = stampOf(fi)
		}
	}
	if k != nil && k.Stamp == st && !k.Racy && !c.force[key] {
		c.looked[key] = true
		return k.Hash, nil
	}
	return c.read(ctx, key, st)
}

// sameMode reports whether a file whose hash was asked for would still have this
// mode in a snapshot. Where files have no modes the content decides.
func (c *contents) sameMode(key, mode string) bool {
	k := c.known[key]
	return k != nil && (k.Stamp.Version != "" || bundle.Mode(k.Stamp.Mode) == mode)
}

func (c *contents) read(ctx context.Context, key string, st stamp) (string, error) {
	if st.Size < 0 {
		c.learn(key, st, Missing)
		return Missing, nil
	}
	if _, isDagFile := c.stamps[key]; isDagFile && st.Size > c.maxBytes {
		c.learn(key, st, tooLarge(st.Size))
		return tooLarge(st.Size), nil
	}
	f, err := c.src.Open(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		c.learn(key, stamp{Size: -1}, Missing)
		return Missing, nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	c.reads++
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	sum := hex.EncodeToString(h.Sum(nil))
	c.learn(key, st, sum)
	return sum, nil
}

// settled learns the contents that a file was loaded from where the source tells
// versions apart: what was read is what was listed. Only those of its snapshot count,
// whose hashes were taken here; others are the loader's word.
func (c *contents) settled(deps []Dependency) {
	for _, d := range deps {
		fi, err := c.src.Stat(d.Path)
		if err != nil || fi.IsDir() || d.Mode == "" {
			continue
		}
		if st := stampOf(fi); st.Version != "" {
			c.learn(d.Path, st, d.Hash)
		}
	}
}

func (c *contents) learn(key string, st stamp, hash string) {
	racy := st.Size >= 0 && st.Version == "" && c.now().UnixNano()-max(st.MTime, st.CTime) < int64(racyAge)
	c.looked[key] = true
	if k := c.known[key]; k != nil && k.Stamp == st && k.Hash == hash && k.Racy == racy {
		return
	}
	c.known[key] = &content{Stamp: st, Hash: hash, Racy: racy}
	c.dirty = true
}
