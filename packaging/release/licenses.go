package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

var licenseFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([-._].*)?$`)

// thirdParty returns the licences and notices of every module that packages
// link on a platform, and Go's own: their terms ask for it wherever a program
// travels. A module without one is an error, so that it is noticed.
func thirdParty(goos, arch, tags string, packages ...string) ([]byte, error) {
	cmd := exec.Command("go", append([]string{"list", "-deps", "-tags", tags, "-f",
		"{{with .Module}}{{if not .Main}}{{.Path}}\t{{.Version}}\t{{.Dir}}{{end}}{{end}}"}, packages...)...)
	cmd.Env = append(hostEnv(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+arch)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list -deps: %w", err)
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env GOROOT: %w", err)
	}
	lines := slices.Compact(slices.Sorted(strings.Lines(string(out))))
	var text bytes.Buffer
	text.WriteString("Gust is under the Apache License 2.0, see LICENSE. It contains the following works, under their own licences.\n")
	modules := append([]string{"The Go standard library\t\t" + strings.TrimSpace(string(root))}, lines...)
	for _, m := range modules {
		fields := strings.Split(strings.TrimSpace(m), "\t")
		if len(fields) != 3 {
			continue // the standard library and Gust itself give empty lines
		}
		n, err := appendLicenses(&text, strings.TrimSpace(fields[0]+" "+fields[1]), fields[2])
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return nil, fmt.Errorf("%s has no licence file in %s: find out under which terms it may be handed on", fields[0], fields[2])
		}
	}
	return text.Bytes(), nil
}

func appendLicenses(to *bytes.Buffer, title, dir string) (int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, e := range entries {
		if e.IsDir() || !licenseFile.MatchString(e.Name()) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return 0, err
		}
		fmt.Fprintf(to, "\n%s\n%s (%s)\n\n%s\n", strings.Repeat("=", 80), title, e.Name(), bytes.TrimRight(b, "\n"))
		n++
	}
	return n, nil
}
