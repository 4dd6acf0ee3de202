package dpop_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/dpop"
	"example.com/authtrip/filestore"
	"example.com/authtrip/internal/chaos"
)

// This file has what processes of the operating system do with one bound session. They are
// this test binary, started again.

const (
	envServer = "DPOP_TEST_SERVER"
	envDir    = "DPOP_TEST_DIR"
)

func TestMain(m *testing.M) {
	if at := os.Getenv(envServer); at != "" {
		if err := use(at, os.Getenv(envDir)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func openDir(dir string) authtrip.Store {
	return &authtrip.Sealed{Store: &filestore.Store{Dir: dir}, Keys: [][]byte{make([]byte, 32)}}
}

const (
	callers = 20
	calls   = 25 // of each
)

// use is a process with many users of the session. Each request must be answered.
func use(at, dir string) error {
	grant := authtrip.RefreshToken(&oauth2.Config{ClientID: "public", Endpoint: oauth2.Endpoint{TokenURL: at + "/token"}})
	grant.DPoP = new(dpop.Keys)
	src := &authtrip.Source{Refresher: grant, Store: openDir(dir), Key: "session"}
	client := &http.Client{Transport: &authtrip.Transport{Source: src}}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var all sync.WaitGroup
	var failed atomic.Pointer[error]
	for range callers {
		all.Go(func() {
			for range calls {
				if err := call(ctx, client, at+"/api"); err != nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return src.Close()
}

func call(ctx context.Context, c *http.Client, at string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, strings.NewReader("body"))
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

// TestRule44ProcessesShareOneBoundSession has two processes whose tokens are revoked while
// they use them, and a third that goes on after them. The server ends a session whose
// refresh token comes twice, or with the proof of another key.
func TestRule44ProcessesShareOneBoundSession(t *testing.T) {
	s := newServer(t)
	s.demand("api", "first")
	s.demand("token", "first")
	dir := filepath.Join(t.TempDir(), "sessions")
	src := s.source(t, new(dpop.Keys), openDir(dir))
	s.login(t, src, new(dpop.Keys))
	env := []string{envServer + "=" + s.URL, envDir + "=" + dir}
	revocations := int32(0)
	for _, at := range []int32{100, 400, 700} {
		s.revokeAfter(at)
		revocations++
	}
	chaos.Crowd(t, 2, env...)
	s.revoke()
	chaos.Crowd(t, 1, env...)
	if n := s.tokens.Load() - 1; n != revocations+1 {
		t.Errorf("refreshes = %d, want one for each of %d revocations", n, revocations+1)
	}
	if n, asked := s.answered.Load(), s.asked.Load(); n != 3*callers*calls || asked > 3*(callers+1)+1 {
		t.Errorf("answers = %d, want %d; a nonce was asked for %d times", n, 3*callers*calls, asked)
	}
}
