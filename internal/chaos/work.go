package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
)

// taskEnv holds the task of a process.
const taskEnv = "AUTHTRIP_CHAOS_TASK"

// A Task is what a process does: it refreshes the tokens of some sessions, again and
// again, until it is killed. Whoever has to log in does so.
type Task struct {
	Server         string // the URL below which is /token
	Store          string // where the Store is: a directory, an address
	Process        int    // its number
	Sessions       []string
	AtOnce         int           // how many of them it refreshes at a time
	Pause          time.Duration // between two refreshes, at most
	RefreshTimeout time.Duration
	GracePeriod    time.Duration
}

// Config is that of the client at the server.
func (t Task) Config() *oauth2.Config {
	return &oauth2.Config{
		ClientID: "client", ClientSecret: "client-secret",
		Endpoint: oauth2.Endpoint{TokenURL: t.Server + "/token", AuthStyle: oauth2.AuthStyleInHeader},
	}
}

// HTTPClient returns the one for token requests: the server can tell who sends them.
func (t Task) HTTPClient() *http.Client {
	return &http.Client{Transport: named(strconv.Itoa(t.Process))}
}

// named is the number of a process.
type named string

func (n named) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(processHeader, string(n))
	return http.DefaultTransport.RoundTrip(r)
}

// A Source is what is needed of an authtrip.Source.
type Source interface {
	Refresh(ctx context.Context) (*oauth2.Token, error)
	SetToken(ctx context.Context, tok *oauth2.Token) error
}

// Open returns the sources of a process, one for each key.
type Open func(Task) func(key string) Source

// Child does the task of this process, if it has one: then it does not return. over is
// the error of a session that is over. Call it in TestMain.
func Child(open Open, over error) {
	text := os.Getenv(taskEnv)
	if text == "" {
		return
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1) // its parent is no more
	}()
	var task Task
	if err := json.Unmarshal([]byte(text), &task); err != nil {
		panic(err)
	}
	w := &worker{task: task, over: over}
	source := open(task)
	fmt.Println("ready")
	var wg sync.WaitGroup
	for i := range min(task.AtOnce, len(task.Sessions)) { // one without a session would spin
		wg.Go(func() {
			for {
				for j := i; j < len(task.Sessions); j += task.AtOnce {
					w.refresh(source(task.Sessions[j]), task.Sessions[j])
				}
			}
		})
	}
	wg.Wait()
}

type worker struct {
	task Task
	over error
}

func (w *worker) refresh(src Source, session string) {
	ctx := context.Background()
	_, err := src.Refresh(ctx)
	switch {
	case err == nil:
		fmt.Println("done", session)
	case errors.Is(err, w.over):
		fmt.Println("over", session)
		if err = w.login(ctx, src, session); err != nil {
			fmt.Println("failed", session, err)
		}
	default:
		fmt.Println("failed", session, err)
		<-time.After(20 * time.Millisecond)
	}
	if w.task.Pause > 0 {
		<-time.After(rand.N(w.task.Pause))
	}
}

func (w *worker) login(ctx context.Context, src Source, session string) error {
	u := w.task.Server + loginPath + "?session=" + url.QueryEscape(session)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, u, strings.NewReader(""))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	tok := new(oauth2.Token)
	if err := json.NewDecoder(resp.Body).Decode(tok); err != nil {
		return err
	}
	return src.SetToken(ctx, tok)
}
