// Package faultproxy stands between the functions and the emulated AWS of the end-to-end tests: it counts their calls
// and, on request, throttles them, loses answers, doubles messages and changes their order. It is used by tests only.
package faultproxy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Call is one request of a function to AWS.
type Call struct {
	Function string // "" unless the endpoint it was given ends in /~NAME
	Service  string // the signing name: dynamodb, sqs, s3, lambda, …
	Action   string // UpdateItem, SendMessageBatch, …; the HTTP method for s3 and lambda
	Method   string
	Path     string // of the URL, for s3 and lambda
	Query    url.Values
	Header   http.Header
	Body     []byte // of services with JSON protocols, and of deletions in s3; else nil
}

// String is what Counts calls it.
func (c Call) String() string { return c.Service + "." + c.Action }

// Act is what happens to a call that a rule matches.
type Act int

// The acts.
const (
	// Throttle answers as a throttled table or queue does; the call is not made.
	Throttle Act = iota + 1
	// LoseAnswer makes the call and answers 503: the caller cannot know what became of it.
	LoseAnswer
	// Double makes a call twice: for a send, a message that is delivered twice.
	Double
	// Shuffle delays each message of a send by 0 to 2 s: messages overtake each other.
	Shuffle
)

// Rule says which calls meet with what. Rules are asked in the order of their making; the first that acts decides.
type Rule struct {
	Match func(Call) bool
	Act   Act
	// Every is how many matching calls there are for one that is hit; 1 = all.
	Every int
	// Limit is how often the rule acts; 0 = always.
	Limit int

	seen, hits int
}

// Proxy is a running proxy.
type Proxy struct {
	URL string

	target  *url.URL
	forward *httputil.ReverseProxy
	server  *http.Server

	mu     sync.Mutex
	rules  []*Rule
	counts map[string]int
	watch  func(Call)
}

// Start listens on addr (127.0.0.1:0 for any port). Until SetTarget, calls are answered 503.
func Start(addr string) (*Proxy, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	p := &Proxy{URL: "http://" + l.Addr().String(), counts: map[string]int{}}
	transport := &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true, IdleConnTimeout: 30 * time.Second}
	p.forward = &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(p.target)
			r.Out.Host = p.target.Host
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, "faultproxy: "+err.Error(), http.StatusBadGateway)
		},
	}
	p.server = &http.Server{Handler: http.HandlerFunc(p.serve)} //nolint:gosec // loopback, tests only
	go func() { _ = p.server.Serve(l) }()
	return p, nil
}

// SetTarget says where calls go.
func (p *Proxy) SetTarget(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = u
	return nil
}

// Close ends the proxy.
func (p *Proxy) Close() error { return p.server.Close() }

// Add adds a rule and returns what removes it again and says how often it acted.
func (p *Proxy) Add(r Rule) (remove func() (hits int)) {
	own := &r
	own.Every = max(1, own.Every)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append(p.rules, own)
	return func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.rules = slices.DeleteFunc(p.rules, func(x *Rule) bool { return x == own })
		return own.hits
	}
}

// Watch calls f with every call; nil ends that. f must be quick.
func (p *Proxy) Watch(f func(Call)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watch = f
}

// Counts returns how many calls there were, by Call.String.
func (p *Proxy) Counts() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.counts)
}

// decide counts a call and returns what is to be done with it.
func (p *Proxy) decide(c Call) Act {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[c.String()]++
	if p.watch != nil {
		p.watch(c)
	}
	for _, r := range p.rules {
		if !r.Match(c) {
			continue
		}
		r.seen++
		if r.seen%r.Every != 0 || r.Limit > 0 && r.hits >= r.Limit {
			continue
		}
		r.hits++
		return r.Act
	}
	return 0
}

var credential = regexp.MustCompile(`Credential=[^/]+/\d{8}/[^/]*/([a-z0-9-]+)/aws4_request`)

// callOf recognises a request. The function's name is taken out of its URL; the body has been read where Call says so.
func callOf(r *http.Request) (Call, error) {
	c := Call{Service: "unknown", Action: r.Method, Method: r.Method, Header: r.Header.Clone()}
	if rest, ok := strings.CutPrefix(r.URL.Path, "/~"); ok {
		c.Function, _, _ = strings.Cut(rest, "/")
		prefix := "/~" + c.Function
		r.URL.Path, r.URL.RawPath = "/"+strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, prefix), "/"), strings.TrimPrefix(r.URL.RawPath, prefix)
	}
	c.Path, c.Query = r.URL.Path, r.URL.Query()
	if m := credential.FindStringSubmatch(r.Header.Get("Authorization")); m != nil {
		c.Service = m[1]
	}
	_, action, targeted := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	if targeted {
		c.Action = action
	}
	if !targeted && !(c.Service == "s3" && c.Query.Has("delete")) {
		return c, nil
	}
	var err error
	if c.Body, err = io.ReadAll(r.Body); err != nil {
		return c, err
	}
	return c, nil
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	ready := p.target != nil
	p.mu.Unlock()
	if !ready {
		http.Error(w, "faultproxy: no target yet", http.StatusServiceUnavailable)
		return
	}
	c, err := callOf(r)
	if err != nil {
		http.Error(w, "faultproxy: "+err.Error(), http.StatusBadGateway)
		return
	}
	act := p.decide(c)
	if act == Shuffle {
		c.Body = delayed(c)
	}
	if c.Body != nil {
		setBody(r, c.Body)
	}
	switch act {
	case Throttle:
		throttled(w, c)
		return
	case LoseAnswer, Double:
		again := r.Clone(context.WithoutCancel(r.Context()))
		if c.Body != nil {
			setBody(again, c.Body)
		}
		p.forward.ServeHTTP(&discard{header: http.Header{}}, again)
		if act == LoseAnswer {
			http.Error(w, "faultproxy: the answer is lost", http.StatusServiceUnavailable)
			return
		}
	}
	p.forward.ServeHTTP(w, r)
}

func setBody(r *http.Request, b []byte) {
	r.Body = io.NopCloser(bytes.NewReader(b))
	r.ContentLength = int64(len(b))
	r.Header.Set("Content-Length", fmt.Sprint(len(b)))
}

// throttled answers as the service would.
func throttled(w http.ResponseWriter, c Call) {
	kind, code := "com.amazonaws.dynamodb.v20120810#ThrottlingException", http.StatusBadRequest
	if c.Service == "sqs" {
		kind = "com.amazonaws.sqs#RequestThrottled"
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": kind, "message": "Throughput exceeds the current capacity (faultproxy)"})
}

// delayed gives every message of a send a delay of its own.
func delayed(c Call) []byte {
	var m map[string]any
	if json.Unmarshal(c.Body, &m) != nil {
		return c.Body
	}
	late := func(e map[string]any) {
		have, _ := e["DelaySeconds"].(float64)
		e["DelaySeconds"] = have + float64(rand.IntN(3))
	}
	switch c.Action {
	case "SendMessage":
		late(m)
	case "SendMessageBatch":
		entries, _ := m["Entries"].([]any)
		for _, e := range entries {
			if e, ok := e.(map[string]any); ok {
				late(e)
			}
		}
	default:
		return c.Body
	}
	b, err := json.Marshal(m)
	if err != nil {
		return c.Body
	}
	return b
}

// discard swallows an answer.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}
