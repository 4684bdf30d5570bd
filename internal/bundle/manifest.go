package bundle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"sort"
	"strings"

	"github.com/gustflow/gust/internal/blob"
)

// ManifestFormat is the version of the manifest's form; newer ones are refused.
const ManifestFormat = 1

// MaxManifestBytes bounds a manifest that is read back.
const MaxManifestBytes = 64 << 20

// Manifest lists the files of a snapshot.
type Manifest struct {
	Format int `json:"format"`
	// Environment is a digest of what beside the files decides how tasks run
	// (interpreter, locked requirements); "" if the bundle has none.
	Environment string `json:"environment,omitempty"`
	Files       []File `json:"files"` // sorted by path
}

// File is one file of a snapshot.
type File struct {
	Path   string `json:"path"`   // bundle-relative, slashes, clean
	SHA256 string `json:"sha256"` // of the content: the name of its blob
	Size   int64  `json:"size"`
	// Mode is 0644 or 0755 in octal: only whether it is executable is kept, so
	// that the hash does not depend on anybody's umask.
	Mode string `json:"mode"`
}

const (
	modeFile = "0644"
	modeExec = "0755"
)

// Mode returns the mode that a file of mode m has in a manifest.
func Mode(m fs.FileMode) string {
	if m&0o111 != 0 {
		return modeExec
	}
	return modeFile
}

// Encode returns the canonical JSON of m, whose hash is the bundle hash.
func (m Manifest) Encode() []byte {
	m.Files = append([]File{}, m.Files...)
	sort.Slice(m.Files, func(i, j int) bool { return m.Files[i].Path < m.Files[j].Path })
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(m); err != nil {
		panic(fmt.Sprintf("bundle: manifest cannot be encoded: %v", err)) // strings and integers only
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// Hash returns the bundle hash: that of the canonical manifest.
func (m Manifest) Hash() string { return blob.Hash(m.Encode()) }

// DecodeManifest reads a manifest and verifies that its paths stay inside a
// folder, so that a forged one cannot make Materialize write elsewhere.
func DecodeManifest(data []byte) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("bundle: manifest is not JSON of the expected shape: %w", err)
	}
	if m.Format != ManifestFormat {
		return m, fmt.Errorf("bundle: manifest has format %d, this program reads %d: use the newer gust", m.Format, ManifestFormat)
	}
	seen := map[string]bool{}
	for _, f := range m.Files {
		if err := CheckPath(f.Path); err != nil {
			return m, err
		}
		if seen[f.Path] {
			return m, fmt.Errorf("bundle: manifest lists %q twice", f.Path)
		}
		seen[f.Path] = true
		if err := blob.CheckHash(f.SHA256); err != nil {
			return m, fmt.Errorf("bundle: file %q: %w", f.Path, err)
		}
		if f.Mode != modeFile && f.Mode != modeExec {
			return m, fmt.Errorf("bundle: file %q has mode %q: expected %s or %s", f.Path, f.Mode, modeFile, modeExec)
		}
	}
	return m, nil
}

// CheckPath reports why p cannot be the path of a file in a bundle.
func CheckPath(p string) error {
	if p == "" || p == "." || path.IsAbs(p) || path.Clean(p) != p || p == ".." || strings.HasPrefix(p, "../") ||
		strings.ContainsAny(p, "\x00\\") {
		return fmt.Errorf("bundle: %q is not a path within a bundle: expected a clean relative path with slashes", p)
	}
	return nil
}
