package dagprocessor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sort"
	"strings"
)

// ScanOptions say which files of a folder are DAG files. The zero value is a
// good default.
type ScanOptions struct {
	// Suffixes of DAG files; default .yml and .yaml. Files named defaults.yml or
	// defaults.yaml hold defaults of other files and are not DAG files.
	Suffixes []string
	// IgnoreSyntax of .airflowignore; default IgnoreGlob.
	IgnoreSyntax IgnoreSyntax
	// MaxFileBytes is the largest DAG file; a larger one is an import error.
	// Default 8 MiB.
	MaxFileBytes int64
	// MaxFiles is the most DAG files; those after it, by path, are not loaded and
	// an import error of the folder says so. Default 100,000.
	MaxFiles int
	// MaxDepth is how deep folders are searched; default 64.
	MaxDepth int
}

func (o ScanOptions) withDefaults() ScanOptions {
	setDefault(&o.Suffixes, len(o.Suffixes) == 0, []string{".yml", ".yaml"})
	setDefault(&o.IgnoreSyntax, o.IgnoreSyntax == "", IgnoreGlob)
	setDefault(&o.MaxFileBytes, o.MaxFileBytes == 0, 8<<20)
	setDefault(&o.MaxFiles, o.MaxFiles == 0, 100_000)
	setDefault(&o.MaxDepth, o.MaxDepth == 0, 64)
	return o
}

// IsDagFile reports whether a file of that name is a DAG file, ignore files aside.
func (o ScanOptions) IsDagFile(name string) bool { return o.withDefaults().isDagFile(path.Base(name)) }

// isDagFile reports whether a file of that name is a DAG file. Emacs's locks
// (.#x.yml) and macOS's resource forks (._x.yml) are not.
func (o ScanOptions) isDagFile(name string) bool {
	if name == "defaults.yml" || name == "defaults.yaml" || strings.HasPrefix(name, ".#") || strings.HasPrefix(name, "._") {
		return false
	}
	for _, s := range o.Suffixes {
		if strings.HasSuffix(name, s) && len(name) > len(s) {
			return true
		}
	}
	return false
}

// skippedDir reports whether a folder never holds DAG files: the metadata of
// version control, Python's caches, and the "..data" folders through which
// Kubernetes publishes a volume's files a second time.
func skippedDir(name string) bool {
	switch name {
	case ".git", ".hg", ".svn", "__pycache__":
		return true
	}
	return strings.HasPrefix(name, "..")
}

// stamp is what stat tells of a file's content: while it is the same, the
// content is taken to be.
type stamp struct {
	Size  int64       `json:"s"` // -1 = there is no file
	MTime int64       `json:"m,omitempty"`
	CTime int64       `json:"c,omitempty"`
	Ino   uint64      `json:"i,omitempty"`
	Mode  fs.FileMode `json:"x,omitempty"`
	// Version is that of a Versioned file.
	Version string `json:"v,omitempty"`
}

func stampOf(fi fs.FileInfo) stamp {
	ino, ctime := changeTime(fi)
	st := stamp{Size: fi.Size(), MTime: fi.ModTime().UnixNano(), CTime: ctime, Ino: ino, Mode: fi.Mode().Perm()}
	if v, ok := fi.(Versioned); ok {
		st.Version = v.Version()
	}
	return st
}

// found is what a scan found.
type found struct {
	files      []string         // DAG files relative to the root, sorted, at most MaxFiles
	stamps     map[string]stamp // of files
	dirs       map[string]bool  // folders searched, as people name them
	unreadable []string         // relative paths of files and folders that exist and could not be read
	problems   []string         // of ignore files, limits, unreadable folders
	dropped    int              // files beyond MaxFiles
}

// hidden reports whether a path may exist although the scan did not find it.
func (f *found) hidden(p string) bool {
	for _, u := range f.unreadable {
		if p == u || strings.HasPrefix(p, u+"/") {
			return true
		}
	}
	return false
}

// maxIgnoreBytes is how much of an ignore file is read.
const maxIgnoreBytes = 1 << 20

type scanner struct {
	opts    ScanOptions
	src     Source
	onDir   func(name string) // called before a folder is read, with the name people use
	out     *found
	visited map[string]bool
	links   []link // folders behind symbolic links, for later
	err     error
}

type link struct {
	rel   string
	depth int
	rules ignoreRules
}

// scan walks a source. Real folders are searched first; a folder behind a symbolic
// link only if no other path has led to it, so that cycles end and no file is
// found twice. An error means that the root itself cannot be read.
func scan(ctx context.Context, src Source, o ScanOptions, onDir func(string)) (*found, error) {
	s := &scanner{
		opts: o, src: src, onDir: onDir, visited: map[string]bool{},
		out: &found{stamps: map[string]stamp{}, dirs: map[string]bool{}},
	}
	if err := src.Refresh(ctx); err != nil {
		return nil, err
	}
	if t, ok := src.(Troubled); ok {
		s.out.problems = append(s.out.problems, t.Problems()...)
	}
	s.dir(ctx, "", 0, nil)
	for len(s.links) > 0 && s.err == nil {
		links := s.links
		s.links = nil
		sort.Slice(links, func(i, j int) bool { return links[i].rel < links[j].rel })
		for _, l := range links {
			s.dir(ctx, l.rel, l.depth, l.rules)
		}
	}
	if s.err != nil {
		return nil, s.err
	}
	sort.Strings(s.out.files)
	if n := len(s.out.files) - o.MaxFiles; n > 0 {
		s.out.dropped = n
		for _, f := range s.out.files[o.MaxFiles:] {
			s.out.unreadable = append(s.out.unreadable, f) // they exist: their DAGs are not stale
			delete(s.out.stamps, f)
		}
		s.out.problems = append(s.out.problems, fmt.Sprintf("the folder has more than %d DAG files: %d are not loaded, from %s on; exclude files by %s or raise the limit",
			o.MaxFiles, n, s.out.files[o.MaxFiles], IgnoreFile))
		s.out.files = s.out.files[:o.MaxFiles]
	}
	return s.out, nil
}

func (s *scanner) dir(ctx context.Context, rel string, depth int, rules ignoreRules) {
	if s.err == nil {
		s.err = ctx.Err()
	}
	if s.err != nil {
		return
	}
	name := s.src.Name(rel)
	id, err := s.src.Identity(rel)
	if err == nil {
		if s.visited[id] {
			return
		}
		s.visited[id] = true
	}
	s.onDir(name)
	s.out.dirs[name] = true
	entries, err := s.src.ReadDir(rel)
	if errors.Is(err, fs.ErrNotExist) && rel != "" {
		return // removed while the scan was on its way
	}
	if err != nil {
		if rel == "" {
			s.err = fmt.Errorf("DAG folder: %w", err)
			return
		}
		s.skip(rel, fmt.Sprintf("folder %s cannot be read: %v", rel, err))
		if len(entries) == 0 {
			return
		}
	}
	for _, e := range entries {
		if e.Name() == IgnoreFile {
			rules = s.ignoreFile(ctx, rel, rules)
		}
	}
	for _, e := range entries {
		s.entry(ctx, rel, depth, rules, e)
	}
}

func (s *scanner) ignoreFile(ctx context.Context, rel string, rules ignoreRules) ignoreRules {
	var text []byte
	r, err := s.src.Open(ctx, path.Join(rel, IgnoreFile))
	if err == nil {
		text, err = io.ReadAll(io.LimitReader(r, maxIgnoreBytes))
		err = errors.Join(err, r.Close())
	}
	if err != nil {
		s.out.problems = append(s.out.problems, fmt.Sprintf("%s cannot be read: %v", path.Join(rel, IgnoreFile), err))
		return rules
	}
	more, problems := parseIgnore(s.opts.IgnoreSyntax, rel, string(text))
	s.out.problems = append(s.out.problems, problems...)
	return append(rules[:len(rules):len(rules)], more...)
}

func (s *scanner) entry(ctx context.Context, dir string, depth int, rules ignoreRules, e fs.DirEntry) {
	rel := path.Join(dir, e.Name())
	isLink := e.Type()&fs.ModeSymlink != 0
	if !isLink && !e.IsDir() && !s.opts.isDagFile(e.Name()) {
		return
	}
	fi, err := s.src.Stat(rel)
	if errors.Is(err, fs.ErrNotExist) {
		return // gone meanwhile, or a dangling link
	}
	switch {
	case err != nil:
		if s.opts.isDagFile(e.Name()) && !rules.match(rel, false) {
			s.skip(rel, fmt.Sprintf("%s cannot be read: %v", rel, err))
		}
	case fi.IsDir():
		if skippedDir(e.Name()) || rules.match(rel, true) {
			return
		}
		if depth+1 > s.opts.MaxDepth {
			s.skip(rel, fmt.Sprintf("folder %s is nested more than %d deep and is not searched", rel, s.opts.MaxDepth))
			return
		}
		if isLink {
			s.links = append(s.links, link{rel, depth + 1, rules})
			return
		}
		s.dir(ctx, rel, depth+1, rules)
	case s.opts.isDagFile(e.Name()) && fi.Mode().IsRegular() && !rules.match(rel, false):
		s.out.files = append(s.out.files, rel)
		s.out.stamps[rel] = stampOf(fi)
	}
}

func (s *scanner) skip(rel, problem string) {
	s.out.unreadable = append(s.out.unreadable, rel)
	s.out.problems = append(s.out.problems, problem)
}
