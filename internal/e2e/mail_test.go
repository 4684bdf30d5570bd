package e2e

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/gustflow/gust/internal/callback"
)

// mailbox is a mail server for the tests; mails are what it took.
type mailbox struct {
	sync.Mutex
	l     net.Listener
	mails []string
}

var mail *mailbox

func startMailbox() *mailbox {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	m := &mailbox{l: l}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go m.talk(c)
		}
	}()
	return m
}

func (m *mailbox) talk(c net.Conn) {
	defer c.Close()
	fmt.Fprint(c, "220 test\r\n")
	var text strings.Builder
	data := false
	for s := bufio.NewScanner(c); s.Scan(); {
		line := s.Text()
		text.WriteString(line + "\n")
		switch {
		case data && line != ".":
			continue
		case data:
			data = false
			m.Lock()
			m.mails = append(m.mails, text.String())
			m.Unlock()
		case line == "DATA":
			data = true
			fmt.Fprint(c, "354 go\r\n")
			continue
		}
		fmt.Fprint(c, "250 ok\r\n")
	}
}

func (m *mailbox) config() callback.SMTPConfig {
	host, port, _ := net.SplitHostPort(m.l.Addr().String())
	cfg := callback.SMTPConfig{Host: host, From: "gust@example.org"}
	fmt.Sscan(port, &cfg.Port)
	return cfg
}

// with returns the mails that contain all of the texts.
func (m *mailbox) with(texts ...string) (found []string) {
	m.Lock()
	defer m.Unlock()
next:
	for _, s := range m.mails {
		for _, t := range texts {
			if !strings.Contains(s, t) {
				continue next
			}
		}
		found = append(found, s)
	}
	return found
}

// TestErrorMails checks the mails that Airflow sends of failures and retries.
func TestErrorMails(t *testing.T) {
	t.Parallel()
	r := shared.trigger(t, "mails", nil).ends(failed, "flaky=failed/2 quiet=failed/2 killed=failed/1 mapped[0]=failed/1 mapped[1]=success/1 fine=success/1")
	run := string(r.key.RunID)
	for name, c := range map[string]struct {
		n     int
		texts []string
	}{
		"a retry":          {1, []string{"Subject: Airflow alert: ", "flaky", "RCPT TO:<ops@example.org>", "RCPT TO:<b@example.org>", "Try 1 out of 2<br>", "non-zero exit code 1", "#email_on_retry"}},
		"a failure":        {1, []string{"flaky", "Try 2 out of 2<br>", `/tasks/flaky?try_number=2">Link</a>`}},
		"a retry alone":    {1, []string{"quiet", "Try 1 out of 2<br>"}},
		"all of quiet":     {1, []string{"/tasks/quiet"}},
		"a killed task":    {1, []string{"killed", "Try 1 out of 1<br>", "SIGKILL"}},
		"a mapped task":    {1, []string{"/tasks/mapped/mapped/0?try_number=1"}},
		"a task that runs": {0, []string{"fine"}},
	} {
		want := append([]string{strings.NewReplacer("+", "%2B", ":", "%3A").Replace(run)}, c.texts...)
		for i, s := range want {
			want[i] = strings.ReplaceAll(s, "#", ".")
		}
		if c.n > 0 {
			eventually(t, "mail of "+name, func() bool { return len(mail.with(want...)) >= c.n })
		}
		if got := mail.with(want...); len(got) != c.n {
			t.Errorf("%s: %d mails, want %d: %q", name, len(got), c.n, got)
		}
	}
}
