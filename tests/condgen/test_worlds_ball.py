import torch

from condgen.worlds.ball import (
    SPEED_PX,
    ball_errors,
    centers,
    circular,
    draw_balls,
    linear_r2,
    render,
    shortest,
)


def test_the_next_frame_is_the_ball_moved_by_its_velocity_on_a_torus() -> None:
    balls = draw_balls(512, torch.Generator().manual_seed(0))
    moved = shortest(centers(balls.following) - centers(balls.frame))
    assert float(shortest(moved - balls.velocity).abs().max()) < 0.02
    assert abs(float(balls.velocity.std()) - SPEED_PX) < 0.1
    assert linear_r2(balls.velocity, circular(balls.position)) < 0.02
    assert linear_r2(balls.velocity, moved) > 0.999


def test_between_walls_some_balls_bounce_and_the_frames_still_tell_most_of_the_velocity() -> None:
    balls = draw_balls(4096, torch.Generator().manual_seed(0), walls=True)
    moved = centers(balls.following) - balls.position
    bounced = (moved - balls.velocity).abs().amax(dim=1) > 0.3
    assert 0.05 < float(bounced.float().mean()) < 0.2
    assert 0.8 < linear_r2(moved, balls.velocity) < 0.9
    assert float(ball_errors(balls.following).max()) < 0.01


def test_a_mean_over_velocities_is_no_ball() -> None:
    generator = torch.Generator().manual_seed(0)
    position = draw_balls(32, generator).position
    mean = torch.stack([render(position + SPEED_PX * torch.randn(32, 2, generator=generator)) for _ in range(99)])
    assert float(ball_errors(mean.mean(dim=0)).min()) > 0.4
    assert float(ball_errors(render(position)).max()) < 0.01
