package login

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"
)

// A Transaction is one login between [Client.AuthCodeURL] and [Client.Exchange]. It
// belongs to the browser that was sent away, ends after [Client.LoginTimeout], and is
// good for one use.
//
// Its fields can be kept as JSON; [Transactions] does that. They are secret: a
// Transaction prints as a blank, with fmt and with log/slog. It must not be
// copied, and its fields must not be modified.
type Transaction struct {
	// State names the login in the redirect (RFC 6749, section 10.12).
	State string `json:"state"`
	// Nonce is what the ID token must repeat; "" if openid was not asked for.
	Nonce string `json:"nonce,omitempty"`
	// Verifier is the code_verifier (RFC 7636, section 4.1).
	Verifier string `json:"verifier"`
	// DPoPKey is the key to which the tokens will be bound; "" without [Client.DPoP].
	DPoPKey string `json:"dpop_key,omitempty"`
	// Issuer and ClientID are those of the [Client]. RedirectURL is the one that was sent to
	// the server.
	Issuer      string `json:"issuer"`
	ClientID    string `json:"client_id"`
	RedirectURL string `json:"redirect_url"`
	// Began and Expires are when the login began, and when it expires.
	Began   time.Time `json:"began,omitzero"`
	Expires time.Time `json:"expires"`
	// Scopes, Resources, MaxAge, FormPost and ReturnTo are of the [AuthRequest];
	// MaxAge in seconds, nil if there was none.
	Scopes    []string `json:"scopes,omitempty"`
	Resources []string `json:"resources,omitempty"`
	MaxAge    *int64   `json:"max_age,omitempty"`
	FormPost  bool     `json:"form_post,omitempty"`
	ReturnTo  string   `json:"return_to,omitempty"`
	// SignedResponse is that of [Client.SignedResponses].
	SignedResponse bool `json:"signed_response,omitempty"`
	// TokenParams are of the AuthRequest too.
	TokenParams url.Values `json:"token_params,omitempty"`
	// Again is the page of this application that began the login: where the browser goes
	// if the login has taken too long, or is over. [Handlers] sets it.
	Again string `json:"again,omitempty"`
	// Binding is the hash of what the browser must show; [Transactions] sets it.
	Binding string `json:"binding,omitempty"`

	spent atomic.Bool
}

// Format implements [fmt.Formatter]: it prints nothing that is in t.
func (t *Transaction) Format(s fmt.State, _ rune) { blank(s, "login.Transaction") }

// LogValue implements [slog.LogValuer]: it logs nothing that is in t.
func (t *Transaction) LogValue() slog.Value { return slog.StringValue("login.Transaction{…}") }

// begin makes the secrets of a login. Rules 1 and 9.
func (t *Transaction) begin(openID bool) {
	t.State = secret()
	t.Verifier = oauth2.GenerateVerifier()
	if openID {
		t.Nonce = secret()
	}
}

// secret returns 256 random bits as 43 characters that need no escape.
func secret() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// check looks at a transaction that comes from the caller's keeping.
func (t *Transaction) check(c *Client) error {
	switch {
	case t == nil:
		return errors.New("login: Exchange: the Transaction is nil")
	case t.State == "" || t.Verifier == "" || t.RedirectURL == "":
		return errors.New("login: Exchange: the Transaction is incomplete")
	case t.Issuer != c.Provider.Issuer:
		// Rule 6: a login that began with one server does not end with another.
		return refuse("transaction issuer", "the login began with another provider", c.Provider.Issuer, t.Issuer)
	case t.ClientID != c.ID:
		return refuse("transaction client_id", "the login began with another client", c.ID, t.ClientID)
	case !time.Now().Before(t.Expires):
		return errTooOld()
	case t.spent.Load():
		return errSpent()
	}
	// Looked at here too: what was kept may have been changed, and the code is not spent yet.
	return addParams(make(url.Values), t.TokenParams, "Transaction.TokenParams")
}

// spend ends t; only the first caller gets nil. Rule 3.
func (t *Transaction) spend() error {
	if t.spent.Swap(true) {
		return errSpent()
	}
	return nil
}

func errTooOld() error {
	return &CheckError{Check: checkTransaction, Reason: "the login took too long: begin again"}
}

// isEnded reports whether err says that a transaction is over or too old.
func isEnded(err error) bool {
	ce, ok := errors.AsType[*CheckError](err)
	return ok && ce.Check == checkTransaction
}

// over returns what is left of a transaction when it has ended.
func (t *Transaction) over() *Transaction {
	return &Transaction{
		State: t.State, RedirectURL: t.RedirectURL, Expires: t.Expires, FormPost: t.FormPost, Again: t.Again, Binding: t.Binding,
	}
}

func (t *Transaction) isOver() bool { return t.Verifier == "" }

func errSpent() error {
	return &CheckError{Check: checkTransaction, Reason: "the login is over: its state was used before"}
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// checkTransaction is the check that a transaction is neither over nor too old.
const checkTransaction = "transaction"
