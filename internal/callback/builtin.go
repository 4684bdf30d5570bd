package callback

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/smtp"
	"strconv"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/worker/proc"
	"github.com/gustflow/gust/internal/worker/serde"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// summary is what built-in callbacks say when they are given no text.
func summary(e taskrunner.CallbackEvent) string {
	what := "DAG " + string(e.Context.DAG.DagID) + " run " + string(e.Context.Run.RunID)
	if t := e.Context.Task; t != nil {
		what = "Task " + airflow.TIName(t.TaskID, e.MapIndex) + " of " + what + fmt.Sprintf(" (try %d)", e.Context.TryNumber)
	}
	state := e.State
	if state == "" {
		state = strings.TrimSuffix(strings.TrimPrefix(e.Name, "on_"), "_callback")
	}
	text := what + ": " + state
	if e.Reason != "" {
		text += " (" + e.Reason + ")"
	}
	if e.Err != nil {
		text += "\n" + e.Err.Error()
	}
	return text
}

// command runs a shell command; it finds the facts in its environment.
func (r *Runner) command(ctx context.Context, e taskrunner.CallbackEvent, a *taskrunner.Args, key string) error {
	cmd := a.String("command", a.String("bash_command", ""))
	env := append(r.environ(e, key), "AIRFLOW_CTX_DAG_ID="+string(e.Context.DAG.DagID), "AIRFLOW_CTX_DAG_RUN_ID="+string(e.Context.Run.RunID),
		"GUST_CALLBACK="+e.Name, "GUST_STATE="+e.State, "GUST_REASON="+e.Reason)
	if t := e.Context.Task; t != nil {
		env = append(env, "AIRFLOW_CTX_TASK_ID="+string(t.TaskID), "AIRFLOW_CTX_TRY_NUMBER="+strconv.Itoa(e.Context.TryNumber), "GUST_MAP_INDEX="+strconv.Itoa(e.MapIndex))
	}
	if e.Err != nil {
		env = append(env, "GUST_ERROR="+strings.ReplaceAll(e.Err.Error(), "\x00", ""))
	}
	for _, kv := range a.StringMap("env") {
		env = append(env, kv[0]+"="+kv[1])
	}
	if cmd == "" {
		a.Reject("command", "is missing: give a shell command")
	}
	if err := a.Err(); err != nil {
		return err
	}
	p, err := proc.Start(proc.Spec{Path: "bash", Args: []string{"-c", cmd}, Env: env, Dir: e.Context.BundleDir, As: e.As, Stdout: func(b []byte) { e.Log.Info(string(b)) }})
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { p.End(5 * time.Second) })
	exit := p.Wait()
	if !stop() {
		return context.Cause(ctx)
	}
	if !exit.OK() {
		return fmt.Errorf("the command failed: %v", exit)
	}
	return nil
}

// payload is the body of a webhook without one of its own.
type payload struct {
	Event    string     `json:"event"`
	DagID    string     `json:"dag_id"`
	RunID    string     `json:"dag_run_id"`
	TaskID   string     `json:"task_id,omitempty"`
	MapIndex *int       `json:"map_index,omitempty"`
	Try      int        `json:"try_number,omitempty"`
	State    string     `json:"state,omitempty"`
	Reason   string     `json:"reason,omitempty"`
	Error    string     `json:"error,omitempty"`
	Logical  *time.Time `json:"logical_date"`
	LogURL   string     `json:"log_url,omitempty"`
	Text     string     `json:"text"` // chat services show it
}

func payloadOf(e taskrunner.CallbackEvent) payload {
	p := payload{
		Event: strings.TrimSuffix(e.Name, "_callback"), DagID: string(e.Context.DAG.DagID), RunID: string(e.Context.Run.RunID), State: e.State,
		Reason: e.Reason, Logical: e.Context.Run.LogicalDate, LogURL: e.Context.LogURL, Text: summary(e),
	}
	if t := e.Context.Task; t != nil {
		p.TaskID, p.Try, p.MapIndex = string(t.TaskID), e.Context.TryNumber, &e.MapIndex
	}
	if e.Err != nil {
		p.Error = e.Err.Error()
	}
	return p
}

// webhook posts JSON to a URL: json (any value), data (text) or a standard payload.
func (r *Runner) webhook(ctx context.Context, e taskrunner.CallbackEvent, a *taskrunner.Args, key string) error {
	url, method := a.Required("url"), strings.ToUpper(a.String("method", "POST"))
	headers := a.StringMap("headers")
	var body any = payloadOf(e)
	if v := a.Get("json"); v != nil {
		body = serde.Plain(v)
	}
	raw := []byte(a.String("data", ""))
	if err := a.Err(); err != nil {
		return err
	}
	if len(raw) == 0 {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return err
		}
	}
	return r.post(ctx, method, url, headers, raw, key, nil)
}

// post sends a request and takes any status below 400 as success; check may
// look at the answer too.
func (r *Runner) post(ctx context.Context, method, url string, headers [][2]string, body []byte, key string, check func([]byte) error) error {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "gust-callback")
	req.Header.Set("Idempotency-Key", key)
	for _, kv := range headers {
		req.Header.Set(kv[0], kv[1])
	}
	resp, err := r.o.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return err
	}
	if resp.StatusCode >= 400 {
		return fmt.Errorf("%s %s answered %s: %.200s", method, req.URL.Redacted(), resp.Status, text)
	}
	if check != nil {
		return check(text)
	}
	return nil
}

// slack posts to an incoming webhook: url, or a connection whose host and
// password form it.
func (r *Runner) slack(ctx context.Context, e taskrunner.CallbackEvent, a *taskrunner.Args, key string) error {
	url := a.String("url", a.String("webhook_url", ""))
	if url == "" {
		id := a.String("slack_webhook_conn_id", a.String("conn_id", "slack_default"))
		c, err := r.o.Reader.GetConnection(ctx, id)
		if err != nil {
			return fmt.Errorf("connection %q: %w", id, err)
		}
		r.secret(c.Password)
		switch {
		case strings.Contains(c.Password, "://"):
			url = c.Password
		case c.Host != "":
			host := c.Host
			if !strings.Contains(host, "://") {
				host = "https://" + host
			}
			url = strings.TrimSuffix(host, "/") + "/" + strings.TrimPrefix(c.Password, "/")
		default:
			url = "https://hooks.slack.com/services/" + strings.TrimPrefix(c.Password, "/")
		}
	}
	body := map[string]any{"text": a.String("text", summary(e))}
	for _, k := range []string{"blocks", "attachments", "channel", "username", "icon_emoji", "icon_url", "unfurl_links", "unfurl_media"} {
		if v := a.Get(k); v != nil {
			body[k] = serde.Plain(v)
		}
	}
	if err := a.Err(); err != nil {
		return err
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return r.post(ctx, "POST", url, nil, raw, key, nil)
}

// slackAPI posts by chat.postMessage; the connection's password is the token.
func (r *Runner) slackAPI(ctx context.Context, e taskrunner.CallbackEvent, a *taskrunner.Args, key string) error {
	id := a.String("slack_conn_id", "slack_api_default")
	c, err := r.o.Reader.GetConnection(ctx, id)
	if err != nil {
		return fmt.Errorf("connection %q: %w", id, err)
	}
	r.secret(c.Password)
	base := a.String("base_url", "https://slack.com/api/")
	body := map[string]any{"channel": a.String("channel", "#general"), "text": a.String("text", summary(e))}
	for _, k := range []string{"username", "icon_url", "attachments", "blocks", "unfurl_links", "unfurl_media"} {
		if v := a.Get(k); v != nil {
			body[k] = serde.Plain(v)
		}
	}
	if err := a.Err(); err != nil {
		return err
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return r.post(ctx, "POST", strings.TrimSuffix(base, "/")+"/chat.postMessage", [][2]string{{"Authorization", "Bearer " + c.Password}}, raw, key, func(b []byte) error {
		var res struct {
			OK    bool   `json:"ok"`
			Error string `json:"error"`
		}
		if err := json.Unmarshal(b, &res); err != nil || !res.OK {
			return fmt.Errorf("Slack refused the message: %s%v", res.Error, err)
		}
		return nil
	})
}

// SMTPConfig is how e-mail is sent.
type SMTPConfig struct {
	Host           string
	Port           int // default 25, with SSL 465
	User, Password string
	From           string
	StartTLS       bool // required if true; used whenever offered
	SSL            bool
	Timeout        time.Duration // default 30 s
	// ConnID is the connection that is used instead where it exists ([email] email_conn_id).
	ConnID string
	// NoVerify accepts any certificate ([email] ssl_context = none).
	NoVerify bool
	// Subject and HTMLContent are the templates of mails about failed tasks ([email]
	// subject_template, html_content_template: the contents of the files). Default:
	// Airflow's.
	Subject, HTMLContent string
	// Tries is how often the server is dialled ([smtp] smtp_retry_limit). Default 1:
	// only what was surely not sent is tried again.
	Tries int
}

// What Airflow says of a failed task by default.
const (
	errorSubject = "Airflow alert: {{ti}}"
	errorHTML    = `Try {{try_number}} out of {{max_tries + 1}}<br>Exception:<br>{{exception_html}}<br>` +
		`Log: <a href="{{ti.log_url}}">Link</a><br>Host: {{ti.hostname}}<br>Mark success: <a href="{{ti.mark_success_url}}">Link</a><br>`
)

// email sends a message: to, cc, bcc, subject, html_content; smtp_conn_id names
// a connection, else the Runner's SMTP is used.
func (r *Runner) email(ctx context.Context, e taskrunner.CallbackEvent, a *taskrunner.Args, key string) error {
	cfg := r.o.SMTP
	id := a.String("smtp_conn_id", a.String("conn_id", ""))
	named := id != ""
	if !named {
		id = or(cfg.ConnID, "smtp_default")
	}
	switch c, err := r.o.Reader.GetConnection(ctx, id); {
	case err == nil:
		r.secret(c.Password)
		if cfg, err = smtpConfig(c); err != nil {
			return fmt.Errorf("connection %q: %w", id, err)
		}
		cfg.From, cfg.NoVerify, cfg.Tries = or(cfg.From, r.o.SMTP.From), r.o.SMTP.NoVerify, r.o.SMTP.Tries
	case named || cfg.Host == "" || !errors.Is(err, airflow.ErrNotFound):
		return fmt.Errorf("connection %q: %w", id, err)
	}
	from := a.String("from_email", cfg.From)
	to, cc, bcc := addresses(a.Strings("to")), addresses(a.Strings("cc")), addresses(a.Strings("bcc"))
	subject := a.String("subject", strings.SplitN(summary(e), "\n", 2)[0])
	html := a.String("html_content", "")
	text := a.String("text", "")
	if len(to) == 0 {
		a.Reject("to", "is missing: give one or several addresses")
	}
	if from == "" {
		a.Reject("from_email", "is missing: give it, or from_email in the extra of the connection")
	}
	if err := a.Err(); err != nil {
		return err
	}
	if html == "" && text == "" {
		text = summary(e)
	}
	msg := message(from, to, cc, subject, html, text, key, r.o.Clock())
	return sendMail(ctx, cfg, from, append(append(append([]string{}, to...), cc...), bcc...), msg)
}

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

func addresses(list []string) []string {
	var out []string
	for _, s := range list {
		for _, x := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ';' }) {
			if x = strings.TrimSpace(x); x != "" {
				out = append(out, x)
			}
		}
	}
	return out
}

func smtpConfig(c airflow.Connection) (SMTPConfig, error) {
	cfg := SMTPConfig{Host: c.Host, Port: c.Port, User: c.Login, Password: c.Password, SSL: true, StartTLS: true}
	var extra struct {
		DisableTLS bool   `json:"disable_tls"`
		DisableSSL bool   `json:"disable_ssl"`
		From       string `json:"from_email"`
		Timeout    int    `json:"timeout"`
	}
	if c.Extra != "" {
		if err := json.Unmarshal([]byte(c.Extra), &extra); err != nil {
			return cfg, fmt.Errorf("extra: expected an object with disable_tls, disable_ssl, from_email, timeout: %w", err)
		}
	}
	cfg.SSL, cfg.StartTLS, cfg.From = !extra.DisableSSL, !extra.DisableTLS, extra.From
	cfg.Timeout = time.Duration(extra.Timeout) * time.Second
	if cfg.Host == "" {
		return cfg, fmt.Errorf("it has no host")
	}
	return cfg, nil
}

func header(s string) string { return strings.NewReplacer("\r", " ", "\n", " ").Replace(s) }

func message(from string, to, cc []string, subject, html, text, key string, now time.Time) []byte {
	var b bytes.Buffer
	put := func(k, v string) { fmt.Fprintf(&b, "%s: %s\r\n", k, header(v)) }
	put("From", from)
	put("To", strings.Join(to, ", "))
	if len(cc) > 0 {
		put("Cc", strings.Join(cc, ", "))
	}
	put("Subject", mime.QEncoding.Encode("utf-8", header(subject)))
	put("Date", now.Format(time.RFC1123Z))
	put("Message-ID", "<"+strings.NewReplacer("/", ".", "#", ".", "+", ".", ":", ".", " ", ".").Replace(key)+"@gust>")
	put("MIME-Version", "1.0")
	put("Content-Transfer-Encoding", "8bit")
	body := text
	kind := "text/plain"
	if html != "" {
		body, kind = html, "text/html"
	}
	put("Content-Type", kind+"; charset=utf-8")
	b.WriteString("\r\n" + strings.ReplaceAll(strings.ReplaceAll(body, "\r\n", "\n"), "\n", "\r\n") + "\r\n")
	return b.Bytes()
}

func sendMail(ctx context.Context, cfg SMTPConfig, from string, to []string, msg []byte) error {
	if cfg.Port == 0 {
		cfg.Port = 25
		if cfg.SSL {
			cfg.Port = 465
		}
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	addr := net.JoinHostPort(cfg.Host, strconv.Itoa(cfg.Port))
	security := &tls.Config{ServerName: cfg.Host, InsecureSkipVerify: cfg.NoVerify} // as configured: [email] ssl_context
	var conn net.Conn
	var err error
	for try := 1; ; try++ {
		if cfg.SSL {
			conn, err = (&tls.Dialer{Config: security}).DialContext(ctx, "tcp", addr)
		} else {
			conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		}
		if err == nil || try >= cfg.Tries || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("mail server %s: %w", addr, err)
	}
	defer conn.Close()
	if dl, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(dl); err != nil {
			return err
		}
	}
	c, err := smtp.NewClient(conn, cfg.Host)
	if err != nil {
		return fmt.Errorf("mail server %s: %w", addr, err)
	}
	defer c.Close()
	if ok, _ := c.Extension("STARTTLS"); ok && !cfg.SSL {
		if err := c.StartTLS(security); err != nil {
			return err
		}
	} else if cfg.StartTLS && !cfg.SSL {
		return fmt.Errorf("mail server %s offers no STARTTLS: set disable_tls in the extra of the connection to send without it", addr)
	}
	if cfg.User != "" {
		if err := c.Auth(smtp.PlainAuth("", cfg.User, cfg.Password, cfg.Host)); err != nil {
			return err
		}
	}
	if err := c.Mail(from); err != nil {
		return err
	}
	for _, rcpt := range to {
		if err := c.Rcpt(rcpt); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(msg); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return c.Quit()
}
