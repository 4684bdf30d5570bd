package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// file is an entry of an archive: a copy of from, content, or a link.
type file struct {
	name    string
	from    string
	content []byte
	link    string
	mode    int64
}

// writeTarGz packs files into a folder of the archive. Order, owners, modes and
// times do not depend on the machine.
func writeTarGz(to, folder string, files []file, when time.Time) error {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	var out bytes.Buffer
	gz, err := gzip.NewWriterLevel(&out, gzip.BestCompression) // no name, no time in its header
	if err != nil {
		return err
	}
	w := tar.NewWriter(gz)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: folder + "/", Mode: 0o755, ModTime: when, Format: tar.FormatUSTAR}); err != nil {
		return err
	}
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: folder + "/" + f.name, Mode: f.mode, ModTime: when, Format: tar.FormatUSTAR}
		if f.link != "" {
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.link, 0o777
			if err := w.WriteHeader(h); err != nil {
				return err
			}
			continue
		}
		b := f.content
		if f.from != "" {
			if b, err = os.ReadFile(f.from); err != nil {
				return err
			}
		}
		h.Size = int64(len(b))
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := gz.Close(); err != nil {
		return err
	}
	return os.WriteFile(to, out.Bytes(), 0o644)
}

// writeSums writes SHA256SUMS for the files of a folder, sorted by name.
func writeSums(folder string, names []string) error {
	names = slices.Sorted(slices.Values(names))
	var out strings.Builder
	for _, n := range names {
		sum, _, err := digest(filepath.Join(folder, n))
		if err != nil {
			return err
		}
		fmt.Fprintf(&out, "%s  %s\n", sum, n)
	}
	return os.WriteFile(filepath.Join(folder, "SHA256SUMS"), []byte(out.String()), 0o644)
}

func digest(path string) (sum string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	size, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), size, err
}

func table(folder string, names []string) error {
	fmt.Printf("%-48s %10s  %s\n", "archive", "size", "sha256")
	for _, n := range names {
		sum, size, err := digest(filepath.Join(folder, n))
		if err != nil {
			return err
		}
		fmt.Printf("%-48s %7.2f MB  %s\n", n, float64(size)/(1<<20), sum[:16])
	}
	return nil
}
