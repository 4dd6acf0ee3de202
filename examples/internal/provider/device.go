package provider

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/op"
)

// A device is a device flow in progress (RFC 8628), by its device code.
type device struct {
	userCode string
	state    op.DeviceAuthorizationState
}

// StoreDeviceAuthorization implements [op.DeviceAuthorizationStorage].
func (s *storage) StoreDeviceAuthorization(_ context.Context, clientID, deviceCode, userCode string, expires time.Time, scopes []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for code, d := range s.devices {
		switch {
		case time.Now().After(d.state.Expires):
			delete(s.devices, code)
		case d.userCode == userCode:
			return op.ErrDuplicateUserCode
		}
	}
	s.devices[deviceCode] = &device{
		userCode: userCode,
		state:    op.DeviceAuthorizationState{ClientID: clientID, Scopes: scopes, Expires: expires},
	}
	return nil
}

// GetDeviceAuthorizatonState implements [op.DeviceAuthorizationStorage]. A state
// that has come to its end is returned once.
func (s *storage) GetDeviceAuthorizatonState(_ context.Context, clientID, deviceCode string) (*op.DeviceAuthorizationState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.devices[deviceCode]
	if d == nil || d.state.ClientID != clientID {
		return nil, fmt.Errorf("device code: %w", errUnknown)
	}
	state := d.state
	if state.Done {
		delete(s.devices, deviceCode)
	}
	return &state, nil
}

// approve is the user's word that the device with this code may have tokens.
func (s *storage) approve(userCode string, u User) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.devices {
		if d.userCode != userCode || d.state.Done || time.Now().After(d.state.Expires) {
			continue
		}
		d.state.Done = true
		d.state.Subject = u.Subject
		d.state.AMR = passwordAMR()
		d.state.AuthTime = time.Now()
		return true
	}
	return false
}

// showDevice shows the page to which a device sends its user.
func (p *Provider) showDevice(w http.ResponseWriter, r *http.Request) {
	p.render(w, http.StatusOK, page{Title: "Connect a device", Form: true, Device: true, UserCode: r.FormValue("user_code")})
}

// approveDevice takes the form.
func (p *Provider) approveDevice(w http.ResponseWriter, r *http.Request) {
	userCode := strings.ToUpper(strings.TrimSpace(r.PostFormValue("user_code")))
	u, ok := p.storage.authenticate(r.PostFormValue("login"), r.PostFormValue("password"))
	if !ok || !p.storage.approve(userCode, u) {
		p.render(w, http.StatusUnauthorized, page{
			Title: "Connect a device", Form: true, Device: true, UserCode: userCode, Message: "That is not right.",
		})
		return
	}
	p.render(w, http.StatusOK, page{Title: "Device connected", Message: "You can close this page."})
}
