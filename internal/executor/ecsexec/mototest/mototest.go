// Package mototest starts moto, an emulator of AWS that has ECS, for tests.
package mototest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// ServerVariable names moto's server program; without it the one that install.sh
// installs is used.
const ServerVariable = "GUST_MOTO_SERVER"

// server returns the program, "" if there is none.
func server() string {
	if s := os.Getenv(ServerVariable); s != "" {
		return s
	}
	cache := os.Getenv("GUST_MOTO_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return ""
		}
		cache = filepath.Join(dir, "gust", "moto")
	}
	if s := filepath.Join(cache, "venv", "bin", "moto_server"); exists(s) {
		return s
	}
	return ""
}

func exists(name string) bool { _, err := os.Stat(name); return err == nil }

// Start starts an emulator of its own for a test and returns a configuration for it.
// The test is skipped where moto is not installed.
func Start(t testing.TB) aws.Config {
	t.Helper()
	program := server()
	if program == "" {
		t.Skipf("needs moto: run internal/executor/ecsexec/mototest/install.sh, or set %s to its server program", ServerVariable)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(program, "-H", host, "-p", port)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // it may have ended by itself
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-done
		}
		if i := bytes.Index(log.Bytes(), []byte("Traceback")); t.Failed() && i >= 0 {
			t.Logf("moto failed:\n%s", log.Bytes()[i:min(i+6000, log.Len())])
		}
	})
	endpoint := "http://" + addr
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if err := answers(endpoint); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatalf("moto does not answer: %v\n%s", err, log.Bytes())
		}
		select {
		case err := <-done:
			t.Fatalf("moto ended: %v\n%s", err, log.Bytes())
		default:
		}
	}
	return aws.Config{Region: "us-east-1", BaseEndpoint: &endpoint, Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")}
}

func answers(endpoint string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"/moto-api/data.json", nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", res.Status)
	}
	return nil
}
