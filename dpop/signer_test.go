package dpop_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"example.com/authtrip"
	"example.com/authtrip/dpop"
)

func TestSignerMakesProofsWithAKeyThatNobodySees(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.Signer{ed, ec} {
		s := newServer(t)
		keys := &dpop.Keys{Signer: struct{ crypto.Signer }{key}}
		store := new(authtrip.MemoryStore)
		src := s.source(t, keys, store)
		s.login(t, src, keys)
		want200(t, src, s.URL+"/api")
		if b, _, err := store.Load(t.Context(), "session"); err != nil || strings.Contains(string(b), `\"d\"`) {
			t.Errorf("the record has a private key (%v)", err)
		}
		other := s.source(t, new(dpop.Keys), store)
		if _, err := (&http.Client{Transport: &authtrip.Transport{Source: other}}).Get(s.URL + "/api"); err == nil || !strings.Contains(err.Error(), "Keys.Signer") {
			t.Errorf("without the Signer: %v", err)
		}
	}
}

// device is a key that cannot be exported, of a type that nobody knows. It may be away.
type device struct {
	key    crypto.Signer
	away   atomic.Pointer[error]
	signed atomic.Int32
	answer []byte // in place of the signature
}

func (d *device) Public() crypto.PublicKey { return d.key.Public() }

func (d *device) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := d.away.Load(); err != nil {
		return nil, *err
	}
	d.signed.Add(1)
	if d.answer != nil {
		return d.answer, nil
	}
	return d.key.Sign(random, digest, opts)
}

func newDevice(t *testing.T) *device {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &device{key: key}
}

// TestRule43DeviceThatIsAwaySendsNothing: requests fail with the device's error, nothing goes
// out without a proof, and the session is there when it is back.
func TestRule43DeviceThatIsAwaySendsNothing(t *testing.T) {
	s, d := newServer(t), newDevice(t)
	keys := &dpop.Keys{Signer: d}
	src := s.source(t, keys, nil)
	src.Key = ""
	s.login(t, src, keys)
	want200(t, src, s.URL+"/api")
	client := &http.Client{Transport: &authtrip.Transport{Source: src}}
	gone := errors.New("the device is gone")
	d.away.Store(&gone)
	api, tokens := s.api.Load(), s.tokens.Load()
	if _, err := client.Get(s.URL + "/api"); !errors.Is(err, gone) {
		t.Errorf("a request: %v", err)
	}
	if _, err := src.Refresh(t.Context()); !errors.Is(err, gone) || errors.Is(err, authtrip.ErrReauthRequired) {
		t.Errorf("a refresh: %v", err)
	}
	if s.api.Load() != api || s.tokens.Load() != tokens {
		t.Error("something was sent without a proof")
	}
	d.away.Store(nil)
	want200(t, src, s.URL+"/api")
}

// TestSignatureThatIsNoneIsAnError: a device that returns something else, such as the
// signature of JWS itself, sends nothing.
func TestSignatureThatIsNoneIsAnError(t *testing.T) {
	for _, answer := range [][]byte{{}, make([]byte, 64), {0x30, 0x02, 0x02, 0x00}, {0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01}} {
		s, d := newServer(t), newDevice(t)
		d.answer = answer
		g := authtrip.RefreshToken(s.conf())
		g.Type, g.DPoP = "client_credentials", &dpop.Keys{Signer: d}
		if _, err := g.Refresh(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "signature") || s.tokens.Load() != 0 {
			t.Errorf("%d bytes: %v", len(answer), err)
		}
	}
}

func TestDeviceWithAnotherKindOfKeyIsAnErrorAtTheLogin(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.Signer{p384, other} {
		if _, err := (&dpop.Keys{Signer: &device{key: key}}).NewKey(t.Context()); err == nil || !strings.Contains(err.Error(), "Keys.Signer") {
			t.Errorf("%T: %v", key, err)
		}
	}
}

// TestRule73DeviceSignsOnceForEachRequest holds that a key that costs something is not used
// for nothing.
func TestRule73DeviceSignsOnceForEachRequest(t *testing.T) {
	s, d := newServer(t), newDevice(t)
	keys := &dpop.Keys{Signer: d}
	src := s.source(t, keys, nil)
	src.Key = ""
	s.login(t, src, keys)
	for range 5 {
		want200(t, src, s.URL+"/api")
	}
	if n := d.signed.Load(); n != 6 {
		t.Errorf("signatures = %d, want 6", n)
	}
}
