package dagprocessor

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestIgnoreGlob(t *testing.T) {
	for _, c := range []struct {
		rules, path string
		dir, want   bool
	}{
		{"a.yml", "a.yml", false, true},
		{"a.yml", "deep/down/a.yml", false, true},
		{"a.yml", "ba.yml", false, false},
		{"/a.yml", "a.yml", false, true},
		{"/a.yml", "sub/a.yml", false, false},
		{"sub/a.yml", "sub/a.yml", false, true},
		{"sub/a.yml", "x/sub/a.yml", false, false},
		{"*.yml", "x/a.yml", false, true},
		{"*.yml", "x/a.yaml", false, false},
		{"sub/*.yml", "sub/a.yml", false, true},
		{"sub/*.yml", "sub/x/a.yml", false, false},
		{"**/tmp", "x/y/tmp", true, true},
		{"**/tmp", "tmp", true, true},
		{"sub/**", "sub/x/a.yml", false, true},
		{"sub/**", "sub", true, false},
		{"a/**/b", "a/b", true, true},
		{"a/**/b", "a/x/y/b", true, true},
		{"tmp/", "tmp", true, true},
		{"tmp/", "tmp", false, false},
		{"a?.yml", "ab.yml", false, true},
		{"a?.yml", "a/.yml", false, false},
		{"[ab].yml", "b.yml", false, true},
		{"[!ab].yml", "b.yml", false, false},
		{"[!ab].yml", "c.yml", false, true},
		{"[a-c]x", "bx", false, true},
		{"[]]x", "]x", false, true},
		{"[x", "[x", false, true},
		{`\*.yml`, "*.yml", false, true},
		{`\*.yml`, "a.yml", false, false},
		{"a.b", "axb", false, false},
		{"*.yml\n!keep.yml", "keep.yml", false, false},
		{"*.yml\n!keep.yml", "x/keep.yml", false, false},
		{"!keep.yml\n*.yml", "keep.yml", false, true},
		{"# all of it\n\n  # and more\nb.yml # why", "b.yml", false, true},
		{"/", "a.yml", false, false},
		{"é*.yml", "été.yml", false, true},
		{"a.yml\r\nb.yml\r", "a.yml", false, true},
	} {
		rules, problems := parseIgnore(IgnoreGlob, "", c.rules)
		if len(problems) > 0 {
			t.Errorf("%q: %v", c.rules, problems)
		}
		if got := rules.match(c.path, c.dir); got != c.want {
			t.Errorf("%q on %q (folder: %v): %v, want %v", c.rules, c.path, c.dir, got, c.want)
		}
	}
}

func TestIgnoreRegexp(t *testing.T) {
	rules, problems := parseIgnore(IgnoreRegexp, "team", "project_a # a comment\n^old/\n(?=x)\n")
	if len(problems) != 1 || !strings.Contains(problems[0], "team/.airflowignore line 3") {
		t.Errorf("problems %q", problems)
	}
	for path, want := range map[string]bool{
		"team/project_a.yml": true, "team/x/my_project_ab/z.yml": true, "team/old/a.yml": true, "team/x/old/a.yml": false, "team/b.yml": false,
	} {
		if got := rules.match(path, false); got != want {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
}

// tree makes files and, for names with " -> ", symbolic links.
func tree(t *testing.T, names ...string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "dags")
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		name, target, isLink := strings.Cut(n, " -> ")
		name, content, _ := strings.Cut(name, ": ")
		full := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if isLink {
			err = os.Symlink(target, full)
		} else {
			err = os.WriteFile(full, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func scanned(t *testing.T, root string, o ScanOptions) *found {
	t.Helper()
	out, err := scan(context.Background(), Folder(root), o.withDefaults(), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestScan(t *testing.T) {
	root := tree(t, "b.yml", "a.yaml", "defaults.yml", "sub/defaults.yaml", "readme.md", ".yml", ".#a.yml -> nowhere", "._b.yml",
		"sub/deep/c.yml", ".git/x.yml", "__pycache__/x.yml", ".hidden/h.yml",
		"..2026/k.yml", "..data -> ..2026", "k.yml -> ..data/k.yml", "dangling.yml -> nowhere")
	want := []string{".hidden/h.yml", "a.yaml", "b.yml", "k.yml", "sub/deep/c.yml"}
	if got := scanned(t, root, ScanOptions{}).files; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := scanned(t, root, ScanOptions{Suffixes: []string{".md"}}).files; !slices.Equal(got, []string{"readme.md"}) {
		t.Errorf("suffixes: %v", got)
	}
}

func TestScanFollowsEachFolderOnce(t *testing.T) {
	outside := tree(t, "o.yml", "back/x.yml")
	root := tree(t, "a.yml", "sub/b.yml", "sub/up -> ..", "alias -> sub", "self -> self", "z/link -> "+outside, "y -> "+outside)
	if err := os.Symlink(root, filepath.Join(outside, "back", "root")); err != nil {
		t.Fatal(err)
	}
	want := []string{"a.yml", "sub/b.yml", "y/back/x.yml", "y/o.yml"}
	if got := scanned(t, root, ScanOptions{}).files; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestScanIgnoreFiles(t *testing.T) {
	root := tree(t, ".airflowignore: *_test.yml\nold/", "a.yml", "a_test.yml", "old/x.yml", "team/old -> ../new", "new/n.yml",
		"team/.airflowignore: !keep_test.yml\n/local.yml\n[z-a]", "team/keep_test.yml", "team/b_test.yml", "team/local.yml", "team/sub/local.yml", "keep_test.yml")
	out := scanned(t, root, ScanOptions{})
	want := []string{"a.yml", "new/n.yml", "team/keep_test.yml", "team/sub/local.yml"}
	if !slices.Equal(out.files, want) {
		t.Errorf("got %v, want %v", out.files, want)
	}
	if len(out.problems) != 1 || !strings.Contains(out.problems[0], "team/.airflowignore line 3") {
		t.Errorf("problems %q", out.problems)
	}
}

func TestScanErrors(t *testing.T) {
	root := tree(t, "a.yml")
	if _, err := scan(context.Background(), Folder(filepath.Join(root, "a.yml")), ScanOptions{}.withDefaults(), func(string) {}); err == nil {
		t.Error("a file was taken for a folder")
	}
	if _, err := scan(context.Background(), Folder(filepath.Join(root, "none")), ScanOptions{}.withDefaults(), func(string) {}); err == nil {
		t.Error("a folder that does not exist was scanned")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := scan(ctx, Folder(root), ScanOptions{}.withDefaults(), func(string) {}); err == nil {
		t.Error("a cancelled scan had no error")
	}
}

func FuzzIgnore(f *testing.F) {
	f.Add("\xb5", "0")
	f.Add("*.yml\n!a/**/b[!x]?\\", "a/b")
	f.Fuzz(func(t *testing.T, rules, path string) {
		rs, problems := parseIgnore(IgnoreGlob, "", rules)
		rs.match(path, true)
		for _, p := range problems {
			// Only a range that is upside down, such as [z-a], and what is not UTF-8
			// cannot be understood.
			if !strings.Contains(p, "[") && utf8.ValidString(rules) {
				t.Errorf("%s", p)
			}
		}
	})
}
