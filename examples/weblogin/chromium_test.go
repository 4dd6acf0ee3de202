package main

import (
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"
)

// What a user sees, in a real browser.

func TestLogin(t *testing.T) {
	t.Parallel()
	b := window(t)
	if b == nil {
		return
	}
	w := start(t, time.Minute)
	b.open(w.conf.baseURL)
	b.at("/", "Everything you ordered, on one page.")
	b.click("a.button")
	b.logIn(demoLogin, "difference engine")
	b.until("document.querySelector('[role=alert]')?.textContent === 'That is not right.'")
	b.logIn(demoLogin, demoPassword)
	b.at("/orders", "Your orders")
	b.until("document.querySelector('.name').textContent === 'Ada Lovelace'")
	b.until("document.querySelector('.avatar img').naturalWidth > 0") // the picture is there, and allowed
	b.until("document.querySelectorAll('tbody tr').length === 5")
	b.click(".filter a:last-child")
	b.at("/orders?show=open", "Your orders")
	b.until("document.querySelectorAll('tbody tr').length === 2")
	b.click(".account button")
	b.at("/home", "Everything you ordered, on one page.")
	b.until("document.querySelector('[role=status]').textContent.startsWith('You are logged out')")
}

func TestChoiceOfProviders(t *testing.T) {
	t.Parallel()
	b := window(t)
	if b == nil {
		return
	}
	w := start(t, time.Minute, bothProviders)
	b.phone(360, 740)
	b.open(w.conf.baseURL + "/orders?show=open")
	b.at("/ended?return_to=%2Forders%3Fshow%3Dopen", "You are not logged in")
	b.click("a.button")
	b.at("/login?return_to=%2Forders%3Fshow%3Dopen", "Log in")
	b.fits()
	b.tabTo("li:nth-child(2) a")
	b.press(kb.Enter)
	b.logIn(demoLogin, demoPassword)
	b.at("/orders?show=open", "Your orders")
	b.until("document.querySelector('.name').textContent === 'Ada King'")
	b.click(".account button")
	b.at("/home", "Everything you ordered, on one page.")
}

// The page that is open notices by itself.
func TestProviderEndsTheSession(t *testing.T) {
	t.Parallel()
	b := window(t)
	if b == nil {
		return
	}
	w := start(t, time.Minute)
	b.open(w.conf.baseURL + "/login?return_to=%2Forders%3Fshow%3Dopen")
	b.logIn(demoLogin, demoPassword)
	b.at("/orders?show=open", "Your orders")
	if err := w.demo.provider.EndSessions(t.Context(), "42"); err != nil {
		t.Fatal(err)
	}
	b.at("/ended?return_to=%2Forders%3Fshow%3Dopen", "Your session has ended")
}

func TestAccount(t *testing.T) {
	t.Parallel()
	b := window(t)
	if b == nil {
		return
	}
	w := start(t, time.Minute)
	w.visitor().logIn("/login", demoLogin, demoPassword).want(t, 200, "/orders") // elsewhere
	b.phone(360, 740)
	b.open(w.conf.baseURL + "/login")
	b.logIn(demoLogin, demoPassword)
	b.at("/orders", "Your orders")
	b.tabTo("a.name")
	b.press(kb.Enter)
	b.at("/account", "Your sessions")
	b.fits()
	b.until("document.querySelectorAll('.sessions li').length === 2 && document.querySelectorAll('.here').length === 1")
	b.until("document.querySelector('.here .words').textContent === 'Connected'")
	b.until("document.querySelector('.here .needs').textContent === 'No'")
	b.tabTo("form.refresh button")
	b.press(kb.Enter)
	b.until("document.querySelector('#said').textContent === 'Refreshed.'")
}

func TestExpiryWhileThePageIsOpen(t *testing.T) {
	t.Parallel()
	b := window(t)
	if b == nil {
		return
	}
	const lifetime = time.Second
	w := start(t, lifetime)
	b.open(w.conf.baseURL + "/login")
	b.logIn(demoLogin, demoPassword)
	b.at("/orders", "Your orders")
	b.is("window.samePage = true")
	for range 3 {
		token := w.token().AccessToken
		until(t, "the access token has ended", func() bool {
			said, err := w.app.services[0].client.Introspect(t.Context(), token)
			return err == nil && !said.Active
		})
		b.refresh()
		if now := w.token().AccessToken; now == token {
			t.Error("the token is the same after its end")
		}
		b.do() // the page is still there
		if !b.is("window.samePage && document.querySelectorAll('tbody tr').length === 5") {
			t.Fatalf("the page was left: %s", b.state())
		}
		b.is("document.querySelector('#said').textContent = ''")
	}
	if s := w.demo.provider.Stats(); s.RefreshTokensSpent < 3 || s.RefreshTokensReused > 0 {
		t.Errorf("%d refresh tokens were spent, %d of them twice", s.RefreshTokensSpent, s.RefreshTokensReused)
	}
}

func TestRevokedSession(t *testing.T) {
	t.Parallel()
	b := window(t)
	if b == nil {
		return
	}
	w := start(t, time.Minute)
	b.open(w.conf.baseURL + "/login?return_to=%2Forders%3Fshow%3Dopen")
	b.logIn(demoLogin, demoPassword)
	b.at("/orders?show=open", "Your orders")
	w.revoke()
	b.click("form.refresh button")
	b.at("/ended?return_to=%2Forders%3Fshow%3Dopen", "Your session has ended")
	b.click("a.button") // the provider knows the user still
	b.at("/orders?show=open", "Your orders")
	b.until("document.querySelectorAll('tbody tr').length === 2")
}

func TestTwoTabs(t *testing.T) {
	t.Parallel()
	b := window(t)
	if b == nil {
		return
	}
	w := start(t, time.Minute)
	other := b.another()
	for _, tab := range []*tab{b, other} {
		tab.open(w.conf.baseURL)
		tab.click("a.button")
		tab.until("document.querySelector('input[name=password]')")
	}
	other.logIn(demoLogin, demoPassword)
	other.at("/orders", "Your orders")
	b.logIn(demoLogin, demoPassword)
	b.at("/orders", "Your orders")
	b.refresh()
	other.refresh() // with the session of the login that was later

	b.click(".account button")
	b.at("/home", "Everything you ordered, on one page.")
	other.at("/ended?return_to=%2Forders", "You are not logged in") // it notices by itself

	// Somebody else logs in: a tab does not put her orders below another name.
	b.open(w.conf.baseURL + "/login")
	b.logIn(demoLogin, demoPassword)
	b.at("/orders", "Your orders")
	b.is("Object.defineProperty(document, 'hidden', { value: true })") // so that it does not notice by itself
	other.open(w.conf.baseURL + "/orders")
	other.at("/orders", "Your orders")
	other.click(".account button")
	other.at("/home", "Everything you ordered, on one page.")
	other.click("a.button")
	other.logIn("grace", "compiler")
	other.at("/orders", "Your orders")
	b.click("form.refresh button")
	b.until("document.querySelector('.name')?.textContent === 'Grace Hopper' && document.querySelectorAll('tbody tr').length === 1")
}

func TestKeyboard(t *testing.T) {
	t.Parallel()
	b := window(t)
	if b == nil {
		return
	}
	w := start(t, time.Minute)
	b.open(w.conf.baseURL)
	b.at("/", "Everything you ordered, on one page.")
	b.tabTo(".skip")
	b.press(kb.Enter)
	b.until("document.activeElement.id === 'main'")
	b.tabTo("a.button")
	b.press(kb.Enter)
	b.until("document.activeElement.name === 'login'")
	b.press(demoLogin)
	b.tabTo("input[name=password]")
	b.press(demoPassword)
	b.tabTo("button")
	b.press(kb.Enter)
	b.at("/orders", "Your orders")
	b.tabTo("form.refresh button")
	b.press(kb.Enter)
	b.until("document.querySelector('#said').textContent === 'Refreshed.'")
	b.until("document.activeElement.matches('form.refresh button')") // the focus stays
	b.tabTo(".filter a:last-child")
	b.press(kb.Enter)
	b.at("/orders?show=open", "Your orders")
	b.tabTo(".account button")
	b.press(kb.Enter)
	b.at("/home", "Everything you ordered, on one page.")
}

// tabTo presses the Tab key until the focus is where it should be. On the way each
// element that has it can be seen to have it.
func (b *tab) tabTo(sel string) {
	b.Helper()
	for range 20 {
		b.press(kb.Tab)
		if !b.is("document.activeElement === document.body || getComputedStyle(document.activeElement).outlineStyle === 'solid'") {
			b.Fatalf("the focus cannot be seen, at %s", b.state())
		}
		if b.is("document.activeElement.matches('" + sel + "')") {
			return
		}
	}
	b.Fatalf("the Tab key does not lead to %s, at %s", sel, b.state())
}

func TestPhone(t *testing.T) {
	t.Parallel()
	b := window(t)
	if b == nil {
		return
	}
	w := start(t, time.Minute)
	b.phone(360, 740)
	b.open(w.conf.baseURL)
	b.at("/", "Everything you ordered, on one page.")
	b.fits()
	b.click("a.button")
	b.until("document.querySelector('input[name=password]')")
	b.fits()
	b.logIn(demoLogin, demoPassword)
	b.at("/orders", "Your orders")
	b.fits()
	b.open(w.conf.baseURL + "/nowhere")
	b.at("/nowhere", "There is no such page")
	b.fits()
	w.revoke()
	b.open(w.conf.baseURL + "/orders")
	b.at("/ended?return_to=%2Forders", "Your session has ended")
	b.fits()
}

// fits looks at the page as a thumb does.
func (b *tab) fits() {
	b.Helper()
	if !b.is("document.documentElement.scrollWidth <= innerWidth && innerWidth === 360") {
		b.Errorf("the page is wider than the phone, at %s", b.state())
	}
	const small = `[...document.querySelectorAll("a, button, input:not([type=hidden])")].some((e) => {
		const r = e.getBoundingClientRect(); return r.width < 44 || r.height < 44 || r.right > innerWidth;
	})`
	if b.is(small) {
		b.Errorf("something is too small for a thumb, at %s", b.state())
	}
}
