package web

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

func TestHandler(t *testing.T) {
	build := fstest.MapFS{
		"dist/index.html":          {Data: []byte(`<html><base href="/"><script src="assets/a-1.js"></script></html>`)},
		"dist/assets/a-1.js":       {Data: []byte("plain")},
		"dist/assets/a-1.js.gz":    {Data: []byte("packed")},
		"dist/theme.js":            {Data: []byte("theme")},
		"dist/assets/styles-2.css": {Data: []byte("css")},
	}
	for _, c := range []struct {
		name, prefix, path, encoding string
		status                       int
		body, cache, contentType     string
	}{
		{"page", "", "/", "", 200, `<base href="/">`, "no-cache", "text/html; charset=utf-8"},
		{"any view is the page", "", "/dags/a/runs/manual__2026-01-01T00:00:00+00:00", "", 200, `<base href="/">`, "no-cache", "text/html; charset=utf-8"},
		{"asset", "", "/assets/a-1.js", "", 200, "plain", "public, max-age=31536000, immutable", "text/javascript; charset=utf-8"},
		{"compressed", "", "/assets/a-1.js", "br, gzip", 200, "packed", "public, max-age=31536000, immutable", "text/javascript; charset=utf-8"},
		{"asset of another build", "", "/assets/a-0.js", "", 404, "", "", ""},
		{"unhashed", "", "/theme.js", "", 200, "theme", "no-cache", "text/javascript; charset=utf-8"},
		{"no way out", "", "/assets/../../embed.go", "", 404, "", "", ""},
		{"prefix", "/gust", "/dags", "", 200, `<base href="/gust/">`, "no-cache", "text/html; charset=utf-8"},
		{"prefix, asset", "gust/", "/assets/a-1.js", "", 200, "plain", "public, max-age=31536000, immutable", "text/javascript; charset=utf-8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "http://h/", nil)
			r.URL.Path = c.path
			r.Header.Set("Accept-Encoding", c.encoding)
			w := httptest.NewRecorder()
			handler(build, c.prefix).ServeHTTP(w, r)
			if w.Code != c.status {
				t.Fatalf("status %d, want %d", w.Code, c.status)
			}
			if c.status != 200 {
				return
			}
			if !strings.Contains(w.Body.String(), c.body) {
				t.Errorf("body %q lacks %q", w.Body, c.body)
			}
			if got := w.Header().Get("Cache-Control"); got != c.cache {
				t.Errorf("cache %q, want %q", got, c.cache)
			}
			if got := w.Header().Get("Content-Type"); got != c.contentType {
				t.Errorf("type %q, want %q", got, c.contentType)
			}
			if got := w.Header().Get("Content-Security-Policy"); strings.Contains(got, "unsafe") || !strings.Contains(got, "default-src 'self'") {
				t.Errorf("policy %q", got)
			}
		})
	}
}

func TestHandlerWithoutBuild(t *testing.T) {
	w := httptest.NewRecorder()
	handler(fstest.MapFS{}, "").ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/dags", nil))
	if w.Code != 200 || !strings.Contains(w.Body.String(), "make build") {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
}

func TestHandlerRefusesWrites(t *testing.T) {
	w := httptest.NewRecorder()
	handler(fstest.MapFS{}, "").ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/dags", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Fatalf("%d", w.Code)
	}
}
