package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// chromium is one browser for all tests; each has cookies of its own in it.
var chromium browser

type browser struct {
	once   sync.Once
	ctx    context.Context
	cancel []context.CancelFunc
	dir    string
	err    error
}

// start starts it. It talks to this machine and to nobody else.
func (b *browser) start(path string) {
	if b.dir, b.err = os.MkdirTemp("", "weblogin-chromium"); b.err != nil {
		return
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.NoSandbox, // the tests may run as root
		chromedp.DisableGPU,
		chromedp.UserDataDir(b.dir),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-domain-reliability", true),
		chromedp.Flag("no-pings", true),
		chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"),
		chromedp.Flag("lang", "en"),
	)
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), opts...)
	b.cancel = append(b.cancel, cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	b.cancel = append(b.cancel, cancel)
	b.ctx, b.err = ctx, chromedp.Do(ctx)
}

// stop ends it, if it was started.
func (b *browser) stop() {
	for i := range b.cancel {
		b.cancel[len(b.cancel)-1-i]()
	}
	if b.dir != "" {
		_ = os.RemoveAll(b.dir)
	}
}

// A tab is one of a window whose tabs share their cookies.
type tab struct {
	*testing.T
	ctx context.Context
}

// window opens a window with a tab, whose cookies are its own. It is nil where
// there is no browser.
func window(t *testing.T) *tab {
	t.Helper()
	path, ok := installed(t, "chromium", "chromium-browser", "google-chrome")
	if !ok {
		return nil
	}
	chromium.once.Do(func() { chromium.start(path) })
	if chromium.err != nil {
		t.Fatal(chromium.err)
	}
	return openTab(chromium.ctx, t, chromedp.WithNewBrowserContext())
}

// another opens one more tab, with the same cookies.
func (b *tab) another() *tab { b.Helper(); return openTab(b.ctx, b.T) }

func openTab(ctx context.Context, t *testing.T, opts ...chromedp.ContextOption) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(ctx, opts...)
	t.Cleanup(cancel)
	// What starts a tab ends it too, so this has no timeout.
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	b := &tab{t, ctx}
	b.do(chromedp.EmulateViewport(1200, 750))
	b.watch()
	return b
}

// watch reports what a page does that it must not: scripts that fail, and what its
// Content-Security-Policy forbids.
func (b *tab) watch() {
	b.Helper()
	var mu sync.Mutex
	var said []string
	err := chromedp.Listen(b.ctx, func(ev any) {
		mu.Lock()
		defer mu.Unlock()
		switch ev := ev.(type) {
		case *log.EventEntryAdded:
			if ev.Entry.Level == log.EntryLevelError && ev.Entry.Source != log.EntrySourceNetwork {
				said = append(said, ev.Entry.Text)
			}
		case *runtime.EventExceptionThrown:
			said = append(said, ev.ExceptionDetails.Text)
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		for _, s := range said {
			b.Errorf("the browser says: %s", s)
		}
	})
}

// do does steps, each of which waits for what it needs.
func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	for i, step := range steps {
		if err := chromedp.Do(ctx, step); err != nil {
			b.Fatalf("step %d: %v, at %s", i, err, b.state())
		}
	}
}

// state says where the tab is, for a test that fails.
func (b *tab) state() string {
	ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
	defer cancel()
	s, err := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + "\n" + document.body.innerText`))
	if err != nil {
		return err.Error()
	}
	return s
}

func (b *tab) open(url string)   { b.Helper(); b.do(chromedp.Navigate(url)) }
func (b *tab) click(sel string)  { b.Helper(); b.do(chromedp.Click(sel)) }
func (b *tab) press(keys string) { b.Helper(); b.do(chromedp.KeyEvent(keys)) }
func (b *tab) size(w, h int64)   { b.Helper(); b.do(chromedp.EmulateViewport(w, h)) }
func (b *tab) phone(w, h int64) {
	b.Helper()
	b.do(chromedp.EmulateViewport(w, h, chromedp.EmulateMobile, chromedp.EmulateTouch))
}

func (b *tab) fill(sel, s string) {
	b.Helper()
	b.do(chromedp.WaitVisible(sel), chromedp.SendKeys(sel, s))
}

func (b *tab) until(script string) {
	b.Helper()
	until(b.T, script, func() bool { return b.is(script) })
}

// is reports whether an expression is true on the page. While a page is on its way
// there is none to ask.
func (b *tab) is(script string) bool {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+script+")"))
	return ok && err == nil
}

// at waits for a page of the application: its path and query, and its heading.
func (b *tab) at(path, heading string) {
	b.Helper()
	script := fmt.Sprintf("document.readyState === 'complete' && location.pathname + location.search === %q && document.querySelector('h1')?.textContent === %q", path, heading)
	end := time.Now().Add(patience)
	for !b.is(script) {
		if time.Now().After(end) {
			b.Fatalf("want %s with %q, and the tab is at %s", path, heading, b.state())
		}
		<-time.After(50 * time.Millisecond)
	}
}

// logIn fills in the provider's form.
func (b *tab) logIn(login, password string) {
	b.Helper()
	b.fill("input[name=login]", login)
	b.fill("input[name=password]", password)
	b.click("button")
}

// refresh clicks on the button, and waits until the script has done it.
func (b *tab) refresh() {
	b.Helper()
	b.click("form.refresh button")
	b.until("document.querySelector('#said').textContent === 'Refreshed.'")
}

// dark has the pages be dark.
func (b *tab) dark(on bool) {
	b.Helper()
	value := "light"
	if on {
		value = "dark"
	}
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: value}},
	})
	if err != nil {
		b.Fatal(err)
	}
}
