package operator

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	nethttp "net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/worker/serde"
)

type httpOptions struct {
	timeout          time.Duration
	verify, follow   bool
	check            bool
	maxRedirects     int
	extraHeaders     [][2]string
	ca               string // a file or folder of certificates, "" = the system's
	cert, key        string
	proxies          map[string]string
	trustEnvironment bool
}

// readHTTPOptions reads extra_options over the connection's extra; other keys
// of the extra are headers.
func readHTTPOptions(c airflow.Connection, options *jinja.Dict) (httpOptions, error) {
	o := httpOptions{verify: true, follow: true, check: true, maxRedirects: 30, trustEnvironment: true}
	set := func(k string, v jinja.Value) (known bool, err error) {
		truth := func(dst *bool) error {
			b, ok := v.(bool)
			if !ok {
				return fmt.Errorf("%s: expected True or False", k)
			}
			*dst = b
			return nil
		}
		switch k {
		case "timeout":
			if v == nil {
				return true, nil
			}
			f, ok := serde.Float(v)
			if !ok {
				return true, fmt.Errorf("timeout: expected seconds")
			}
			o.timeout = airflow.SecondsDuration(f)
		case "verify":
			if s, ok := v.(string); ok {
				o.ca, o.verify = s, true
				return true, nil
			}
			o.ca = ""
			return true, truth(&o.verify)
		case "allow_redirects":
			return true, truth(&o.follow)
		case "check_response":
			return true, truth(&o.check)
		case "max_redirects":
			n, ok := v.(int64)
			if !ok {
				return true, fmt.Errorf("max_redirects: expected a number")
			}
			o.maxRedirects = int(n)
		case "proxies", "proxy":
			return true, o.setProxies(v)
		case "cert":
			return true, o.setCert(v)
		case "trust_env":
			return true, truth(&o.trustEnvironment)
		case "stream": // the answer is read as a whole
		case "headers":
			if d, ok := v.(*jinja.Dict); ok {
				d.Each(func(k, e jinja.Value) bool {
					ks, _ := jinja.Str(k) // JSON keys are texts
					vs, _ := jinja.Str(e)
					o.extraHeaders = append(o.extraHeaders, [2]string{ks, vs})
					return true
				})
			}
		default:
			return false, nil
		}
		return true, nil
	}
	if strings.TrimSpace(c.Extra) != "" {
		v, err := jinja.ParseJSON(c.Extra)
		d, ok := v.(*jinja.Dict)
		if err != nil || !ok {
			return o, fmt.Errorf("extra of connection %q is no JSON object", c.ConnID)
		}
		for _, k := range d.Keys() {
			e, _ := d.Get(k)
			name := k.(string) // keys of JSON objects are texts
			known, err := set(name, e)
			if err != nil {
				return o, fmt.Errorf("extra of connection %q: %w", c.ConnID, err)
			}
			if !known {
				s, err := jinja.Str(e)
				if err != nil {
					return o, err
				}
				o.extraHeaders = append(o.extraHeaders, [2]string{name, s})
			}
		}
	}
	if options != nil {
		for _, k := range options.Keys() {
			e, _ := options.Get(k)
			name, _ := k.(string)
			known, err := set(name, e)
			if err == nil && !known {
				err = fmt.Errorf("unknown option %q", name)
			}
			if err != nil {
				return o, fmt.Errorf("extra_options: %w", err)
			}
		}
	}
	return o, nil
}

// setProxies reads proxies by scheme, scheme://host, all or all://host, as requests
// takes them; one text is for all.
func (o *httpOptions) setProxies(v jinja.Value) error {
	o.proxies = map[string]string{}
	switch x := v.(type) {
	case nil:
		o.proxies = nil
	case string:
		o.proxies["all"] = x
	case *jinja.Dict:
		for _, k := range x.Keys() {
			e, _ := x.Get(k)
			name, ok := k.(string)
			text, ok2 := e.(string)
			if !ok || !ok2 && e != nil {
				return fmt.Errorf("proxies: expected the URL of a proxy by scheme")
			}
			o.proxies[strings.ToLower(name)] = text
		}
	default:
		return fmt.Errorf("proxies: expected a dict of proxies by scheme, got %s", jinja.TypeOf(v).QualName())
	}
	return nil
}

// setCert reads the certificate that the client shows: one file with the key, or two.
func (o *httpOptions) setCert(v jinja.Value) error {
	var items []jinja.Value
	switch x := v.(type) {
	case nil:
		o.cert, o.key = "", ""
		return nil
	case string:
		o.cert, o.key = x, x
		return nil
	case *jinja.List:
		items = x.Items
	case *jinja.Tuple:
		items = x.Items
	}
	if len(items) == 2 {
		cert, ok := items[0].(string)
		key, ok2 := items[1].(string)
		if ok && ok2 {
			o.cert, o.key = cert, key
			return nil
		}
	}
	return fmt.Errorf("cert: expected the path of a file, or of certificate and key")
}

// proxy picks a request's proxy, most specific first, then the environment's.
func (o httpOptions) proxy(r *nethttp.Request) (*url.URL, error) {
	scheme, host := r.URL.Scheme, r.URL.Hostname()
	for _, k := range []string{scheme + "://" + host, scheme, "all://" + host, "all"} {
		text, ok := o.proxies[strings.ToLower(k)]
		if !ok || text == "" {
			continue
		}
		if !strings.Contains(text, "://") {
			text = "http://" + text
		}
		return url.Parse(text)
	}
	if !o.trustEnvironment {
		return nil, nil
	}
	return nethttp.ProxyFromEnvironment(r)
}

func (o httpOptions) client(k keepAlive) (*nethttp.Client, error) {
	tr := nethttp.DefaultTransport.(*nethttp.Transport).Clone()
	tr.Proxy = o.proxy
	dialer := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: -1}
	if !k.off {
		dialer.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: k.idle, Interval: k.interval, Count: k.count}
	}
	tr.DialContext = dialer.DialContext
	tr.TLSClientConfig = &tls.Config{InsecureSkipVerify: !o.verify} // if the author asked for verify=False
	if o.verify && o.ca != "" {
		pool, err := certificates(o.ca)
		if err != nil {
			return nil, fmt.Errorf("verify: %w", err)
		}
		tr.TLSClientConfig.RootCAs = pool
	}
	if o.cert != "" {
		pair, err := tls.LoadX509KeyPair(o.cert, o.key)
		if err != nil {
			return nil, fmt.Errorf("cert: %w", err)
		}
		tr.TLSClientConfig.Certificates = []tls.Certificate{pair}
	}
	return &nethttp.Client{Transport: tr, Timeout: o.timeout, CheckRedirect: func(_ *nethttp.Request, via []*nethttp.Request) error {
		if !o.follow {
			return nethttp.ErrUseLastResponse
		}
		if len(via) >= o.maxRedirects {
			return fmt.Errorf("stopped after %d redirects", o.maxRedirects)
		}
		return nil
	}}, nil
}

// certificates reads a file of PEM certificates, or all files of a folder.
func certificates(path string) (*x509.CertPool, error) {
	files := []string{path}
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.IsDir() {
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, err
		}
		files = files[:0]
		for _, e := range entries {
			if !e.IsDir() {
				files = append(files, filepath.Join(path, e.Name()))
			}
		}
	}
	pool, found := x509.NewCertPool(), false
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		found = pool.AppendCertsFromPEM(b) || found
	}
	if !found {
		return nil, fmt.Errorf("%s holds no PEM certificates", path)
	}
	return pool, nil
}
