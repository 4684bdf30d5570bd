package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

var errFound = errors.New("found")

// pokeFile is FileSensor: done when the path (a glob) names a file, or a folder
// that holds one somewhere below.
func pokeFile(ctx context.Context, t *taskrunner.Task) (poked, error) {
	path := t.Args.Required("filepath")
	recursive := t.Args.Bool("recursive", false)
	id := t.Args.String("fs_conn_id", "fs_default")
	if err := t.Args.Err(); err != nil {
		return poked{}, err
	}
	base := ""
	c, err := t.Backend().GetConnection(ctx, id)
	switch {
	case err == nil:
		var extra struct {
			Path string `json:"path"`
		}
		if c.Extra != "" {
			if err := json.Unmarshal([]byte(c.Extra), &extra); err != nil {
				return poked{}, fmt.Errorf("extra of connection %q is no JSON object: %w", id, err)
			}
		}
		base = extra.Path
	case errors.Is(err, airflow.ErrNotFound) && id == "fs_default":
		base = "/" // what Airflow creates it with
	case errors.Is(err, airflow.ErrNotFound):
		return poked{}, fmt.Errorf("the conn_id `%s` isn't defined", id)
	default:
		return poked{}, err
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(base, path)
	}
	t.Log.Info("Poking for file " + path)
	for _, m := range glob(path, recursive) {
		st, err := os.Stat(m)
		if err != nil {
			continue
		}
		if !st.IsDir() {
			t.Log.Info(fmt.Sprintf("Found File %s last modified: %s", m, st.ModTime().UTC().Format("20060102150405")))
			return poked{done: true}, nil
		}
		err = filepath.WalkDir(m, func(_ string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				return errFound
			}
			return nil // a folder that cannot be read holds nothing for us
		})
		if errors.Is(err, errFound) {
			return poked{done: true}, nil
		}
	}
	return poked{}, nil
}

// glob is Python's glob.glob: ** matches any depth when recursive, names that
// begin with a dot only match a pattern that does.
func glob(pattern string, recursive bool) []string {
	if !strings.ContainsAny(pattern, "*?[") {
		if _, err := os.Lstat(pattern); err == nil {
			return []string{pattern}
		}
		return nil
	}
	parts := strings.Split(filepath.Clean(pattern), string(filepath.Separator))
	roots := []string{"."}
	if filepath.IsAbs(pattern) {
		roots, parts = []string{"/"}, parts[1:]
	}
	for _, part := range parts {
		var next []string
		for _, root := range roots {
			switch {
			case part == "**" && recursive:
				filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error { // unreadable folders match nothing
					if err != nil {
						return nil
					}
					if p != root && strings.HasPrefix(d.Name(), ".") {
						if d.IsDir() {
							return fs.SkipDir
						}
						return nil
					}
					next = append(next, p)
					return nil
				})
			case !strings.ContainsAny(part, "*?["):
				if _, err := os.Lstat(filepath.Join(root, part)); err == nil {
					next = append(next, filepath.Join(root, part))
				}
			default:
				re := translate(part)
				entries, err := os.ReadDir(root)
				if err != nil {
					continue
				}
				for _, e := range entries {
					if strings.HasPrefix(e.Name(), ".") && !strings.HasPrefix(part, ".") {
						continue
					}
					if re.MatchString(e.Name()) {
						next = append(next, filepath.Join(root, e.Name()))
					}
				}
			}
		}
		roots = next
	}
	sort.Strings(roots)
	return roots
}

// translate is fnmatch.translate.
func translate(p string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	for i := 0; i < len(p); i++ {
		switch c := p[i]; c {
		case '*':
			b.WriteString(".*")
		case '?':
			b.WriteByte('.')
		case '[':
			end := strings.IndexByte(p[min(i+2, len(p)):], ']')
			if end < 0 {
				b.WriteString(`\[`)
				continue
			}
			class := p[i+1 : i+2+end]
			i += 2 + end
			class = strings.ReplaceAll(class, `\`, `\\`)
			if class[0] == '!' {
				class = "^" + class[1:]
			} else if class[0] == '^' {
				class = `\` + class
			}
			b.WriteString("[" + class + "]")
		default:
			b.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	b.WriteString(`\z`)
	re, err := regexp.Compile(b.String())
	if err != nil { // a malformed class matches nothing, as a literal
		return regexp.MustCompile(`\A` + regexp.QuoteMeta(p) + `\z`)
	}
	return re
}
