// Package web is Gust's web UI: a single-page program in TypeScript (src/), built
// by Vite into dist/ and embedded here. The UI talks to /api/v2 and to /ui (package
// internal/uiapi) on the same host and to no other.
package web

import (
	"bytes"
	"embed"
	"html"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed all:dist
var files embed.FS

// ContentSecurityPolicy is sent with every page: no inline script, nothing from
// other hosts, no framing.
const ContentSecurityPolicy = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"

// Built reports whether the binary contains a UI: `make build` leaves it out where
// Node.js is missing.
func Built() bool {
	_, err := fs.Stat(files, "dist/index.html")
	return err == nil
}

// Handler serves the UI. base is the path that browsers reach it under, "" or "/x";
// the request's path does not carry it any more. Hashed assets may be kept for ever;
// pages are asked for again each time. Any path that is no file gets the page, which
// reads its own address.
func Handler(base string) http.Handler {
	return handler(files, base)
}

type site struct {
	files fs.FS
	page  []byte
}

func handler(files fs.FS, base string) http.Handler {
	s := &site{files: files}
	href := "/"
	if base = strings.Trim(base, "/"); base != "" {
		href = "/" + base + "/"
	}
	if page, err := fs.ReadFile(files, "dist/index.html"); err == nil {
		s.page = bytes.Replace(page, []byte(`<base href="/"`), []byte(`<base href="`+html.EscapeString(href)+`"`), 1)
	}
	return s
}

const withoutUI = `<!doctype html><html lang="en"><meta charset="utf-8"><title>Gust</title>
<h1>Gust runs, but this binary has no web UI</h1>
<p>It was built without Node.js. Install Node.js 20.19 or newer and run <code>make build</code>, or use the command line
(<code>gust --help</code>) and the REST API under <code>api/v2</code>.</p></html>
`

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Content-Security-Policy", ContentSecurityPolicy)
	if s.page != nil && name != "" && s.serveFile(w, r, path.Clean(name)) {
		return
	}
	if strings.HasPrefix(name, "assets/") { // of another build: the page would be no script
		http.NotFound(w, r)
		return
	}
	page := s.page
	if page == nil {
		page = []byte(withoutUI)
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Length", strconv.Itoa(len(page)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(page)
	}
}

// serveFile serves a file of the build, compressed by it where the client takes
// that; false if there is none.
func (s *site) serveFile(w http.ResponseWriter, r *http.Request, name string) bool {
	if name == "index.html" || strings.HasPrefix(path.Base(name), ".") || strings.HasSuffix(name, ".gz") || !fs.ValidPath(name) {
		return false
	}
	content, err := fs.ReadFile(s.files, "dist/"+name)
	if err != nil {
		return false
	}
	h := w.Header()
	h.Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
	if strings.HasPrefix(name, "assets/") {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	} else {
		h.Set("Cache-Control", "no-cache")
	}
	if gz, err := fs.ReadFile(s.files, "dist/"+name+".gz"); err == nil {
		h.Add("Vary", "Accept-Encoding")
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			h.Set("Content-Encoding", "gzip")
			content = gz
		}
	}
	h.Set("Content-Length", strconv.Itoa(len(content)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(content)
	}
	return true
}
